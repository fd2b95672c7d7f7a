// The convex solver: softmax regression with a pull to the shipped head, to a stated optimality gap.
//
// Newton's method, each direction found by a few steps of conjugate gradients (Nocedal and Wright, Numerical
// Optimization, 2006, section 7.1), as in device_runtime/solvers/exact.py; docs/profile-format.md#recipes has the
// objective.
#pragma once

#include "sgd.h"

namespace fbkit {

struct ExactFit {
  Head head;
  double gap = 0;        // nats a picture; the objective at the head is at most so far above the minimum
  bool finished = true;  // false where the deadline ended it
};

// start is the shipped head, which the penalty (above 0) pulls to; gap is the one to reach. The result is never worse
// than start. Throws UserError if the features are not finite.
ExactFit fit_exact(const Head& start, const Matrix& features, const Labels& labels, double penalty, double gap,
                   const Deadline& deadline, const Listener& listener = {});

}  // namespace fbkit
