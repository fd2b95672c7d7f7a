// The safetensors format, of which every byte is checked.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "files.h"

namespace fbkit {

// dtype is the format's own name: F16, F32, F64, I64, U8. A dimension of -1 may have any size.
struct Wanted {
  std::string dtype;
  std::vector<std::int64_t> shape;
};

struct StoredTensor {
  std::string dtype;
  std::vector<std::int64_t> shape;
  Bytes data;

  // The values, little-endian as they are in the file, to where there is room for them.
  void copy_to(void* values) const { std::copy(data.begin(), data.end(), static_cast<std::uint8_t*>(values)); }
  std::int64_t rows() const { return shape.at(0); }
};

using StoredTensors = std::map<std::string, StoredTensor>;

// Exactly the tensors that are wanted, all values finite. Throws UserError; origin is for its message.
StoredTensors unpack_tensors(const Bytes& data, const std::map<std::string, Wanted>& wanted, const std::string& origin);

Bytes pack_tensors(const StoredTensors& tensors);

// values holds as many as shape says.
template <typename T>
StoredTensor stored(const std::string& dtype, const std::vector<std::int64_t>& shape, const T* values) {
  std::int64_t count = 1;
  for (const std::int64_t size : shape) count *= size;
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(values);
  return StoredTensor{dtype, shape, Bytes(bytes, bytes + static_cast<std::size_t>(count) * sizeof(T))};
}

}  // namespace fbkit
