// What is remembered of the pictures; docs/profile-format.md#memory.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "files.h"
#include "matrix.h"

namespace fbkit {

// What may be remembered at most; none for as much as there is.
struct Limits {
  std::optional<std::int64_t> pictures, bytes;
};

struct Memory {
  std::vector<std::int64_t> numbers;  // over the profile's whole life, so that none comes twice
  std::vector<std::string> digests;   // of the pictures' files, hexadecimal, each once
  Labels labels;
  std::vector<double> times;  // seconds since 1970
  Matrix features;            // as_stored

  std::size_t size() const { return numbers.size(); }
  // The row of each picture.
  std::map<std::string, std::size_t> rows_by_digest() const;

  Memory where(const Mask& rows) const;
  // With the pictures of more behind.
  Memory with(const Memory& more) const;
  // But for the pictures that other holds, too.
  Memory without(const Memory& other) const;
  // Those of the pictures given that are not remembered, or with another label, numbered from last + 1 on.
  Memory new_among(const std::vector<std::string>& given, const Labels& labels, const Matrix& features,
                   std::int64_t last) const;
  // While there is too much, the oldest picture of the class that has most goes.
  Memory within(const Limits& limits) const;

  Bytes to_bytes() const;
};

Memory no_memory(Index features);

// Throws UserError if it is not as to_bytes writes it.
Memory memory_from_bytes(const Bytes& data, Index features, std::size_t classes, const std::string& origin);

// Rounded to the 11 significant bits in which features are kept.
Matrix as_stored(const Matrix& features);

}  // namespace fbkit
