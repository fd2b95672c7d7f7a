// SGD on the head: torch.optim.SGD's step, on features that were computed once. docs/profile-format.md#recipes
#pragma once

#include <chrono>
#include <functional>
#include <optional>

#include "head.h"

namespace fbkit {

using Deadline = std::optional<std::chrono::steady_clock::time_point>;
bool is_past(const Deadline& deadline);

// How long and how fast to train; the penalty pulls to the start, for a loss that is the sum over the pictures.
struct Schedule {
  int epochs = 5;
  double lr = 0.01, momentum = 0.9;
  int batch_size = 50;
  std::uint64_t seed = 0;
  double weight_decay = 0, penalty = 0;
};

// Hears of each epoch or iteration, from 1 on, and the head after it.
using Listener = std::function<void(int round, const Head& head)>;

struct SgdState {
  Head head, buffers;  // the momentum buffers are shaped like the head
};

// What is the same in every step of a fit. Here the penalty is for a batch's mean loss.
struct StepSettings {
  float lr, momentum, weight_decay, penalty;
  Head anchor;
  Mask kept;  // false for a class that is left out
};

// One step on a batch: changes the state, returns the mean cross-entropy before.
using Step = std::function<float(SgdState&, const Matrix& features, const Labels& labels, const StepSettings&)>;

// The step by its formula in docs/bundle.md#the-step-graph, in float32.
float formula_step(SgdState& state, const Matrix& features, const Labels& labels, const StepSettings& settings);

SgdState sgd_start(const Head& head);

struct SgdFit {
  Head head;
  bool finished = true;  // false where the deadline ended it
};

// Throws UserError if the head is no longer finite: the rate is too high.
SgdFit fit_sgd(const Head& start, const Matrix& features, const Labels& labels, const Schedule& schedule,
               const Step& step, const Mask& kept, const Deadline& deadline, const Listener& listener = {});

}  // namespace fbkit
