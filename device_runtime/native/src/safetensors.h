// The safetensors format, of which every byte is checked.
#pragma once

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

  // The values, little-endian as they are in the file. T must be of the dtype's size.
  template <typename T>
  std::vector<T> as() const {
    std::vector<T> values(data.size() / sizeof(T));
    std::copy(data.begin(), data.end(), reinterpret_cast<std::uint8_t*>(values.data()));
    return values;
  }
};

using StoredTensors = std::map<std::string, StoredTensor>;

// Exactly the tensors that are wanted, all values finite. Throws UserError; origin is for its message.
StoredTensors unpack_tensors(const Bytes& data, const std::map<std::string, Wanted>& wanted, const std::string& origin);

Bytes pack_tensors(const StoredTensors& tensors);

template <typename T>
StoredTensor stored(const std::string& dtype, std::vector<std::int64_t> shape, const std::vector<T>& values) {
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(values.data());
  return StoredTensor{dtype, std::move(shape), Bytes(bytes, bytes + values.size() * sizeof(T))};
}

}  // namespace fbkit
