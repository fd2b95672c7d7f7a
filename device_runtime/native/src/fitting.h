// Running a recipe.
#pragma once

#include <optional>

#include "recipe.h"

namespace fbkit {

struct Fit {
  Head head;                  // as large as the start
  Mask kept;                  // false for a class that predictions leave out
  std::optional<double> gap;  // of the exact solver
  bool finished = true;       // false where the deadline ended it
};

constexpr double kGap = 1e-6;  // nats a picture

// Fit the shipped head, with a row for each class that the device added, to all pictures.
// Throws UserError if the features are not finite, or the learning rate is too high.
Fit fit(const Head& start, const Matrix& features, const Labels& labels, const Recipe& recipe, const Step& step,
        const Deadline& deadline, double gap = kGap, const Listener& listener = {});

}  // namespace fbkit
