// The linear head: features to logits.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "files.h"

namespace fbkit {

using Floats = std::vector<float>;

// Row by row: weight [classes, features] and bias [classes]. Matrices elsewhere lie the same way.
struct Head {
  std::size_t classes = 0, features = 0;
  Floats weight, bias;

  // features [count, features] to [count, classes].
  Floats logits(const Floats& rows) const;
  Floats probabilities(const Floats& rows) const;

  Bytes to_bytes() const;
};

// Throws UserError if data holds no head of this size; origin is for its message.
Head head_from_bytes(const Bytes& data, std::size_t classes, std::size_t features, const std::string& origin);

}  // namespace fbkit
