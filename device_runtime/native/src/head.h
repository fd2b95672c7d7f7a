// The linear head: features to logits.
#pragma once

#include <string>

#include "files.h"
#include "matrix.h"

namespace fbkit {

// The bias of a class that is left out: its probability is 0 exactly, and it is a number when doubled or negated.
constexpr float kNoChance = -1e30f;

struct Head {
  Matrix weight;  // [classes, features]
  Vector bias;    // [classes]

  Index classes() const { return weight.rows(); }

  // features [N, F] to [N, classes].
  Matrix logits(const Matrix& features) const;
  Matrix probabilities(const Matrix& features) const;

  // Cross-entropy of each row, in nats.
  VectorD losses(const Matrix& features, const Labels& labels) const;
  // Their mean.
  double loss(const Matrix& features, const Labels& labels) const;
  // Percent of the rows whose label has the largest logit.
  double accuracy(const Matrix& features, const Labels& labels) const;

  // The same, but that classes which are not in kept have a probability of 0.
  Head with_only(const Mask& kept) const;
  // With a row for each of chances. A new class for which it is true gets the mean of the rows there are, which changes
  // no probability; the others have none.
  Head grown(const Mask& chances) const;

  bool is_finite() const;
  Bytes to_bytes() const;
};

// Throws UserError if data holds no head of this size; origin is for its message.
Head head_from_bytes(const Bytes& data, Index classes, Index features, const std::string& origin);

}  // namespace fbkit
