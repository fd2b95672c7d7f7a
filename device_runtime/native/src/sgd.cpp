#include "sgd.h"

#include <cmath>
#include <limits>

#include "errors.h"
#include "identity.h"
#include "shuffle.h"

namespace fbkit {
namespace {

// gradient comes in as that of the cross-entropy; the buffer and the parameter take their step.
template <typename T>
void move(T& parameter, T& buffer, T gradient, const T& anchor, const StepSettings& settings) {
  if (settings.penalty != 0) gradient += settings.penalty * (parameter - anchor);
  if (settings.weight_decay != 0) gradient += settings.weight_decay * parameter;
  for (std::size_t label = 0; label < settings.kept.size(); ++label) {
    if (settings.kept[label]) continue;
    if constexpr (T::RowsAtCompileTime == 1) {
      gradient[static_cast<Index>(label)] = 0;
    } else {
      gradient.row(static_cast<Index>(label)).setZero();
    }
  }
  buffer = settings.momentum * buffer + gradient;
  parameter -= settings.lr * buffer;
}

}  // namespace

bool is_past(const Deadline& deadline) { return deadline && std::chrono::steady_clock::now() >= *deadline; }

SgdState sgd_start(const Head& head) {
  return {head, {Matrix::Zero(head.weight.rows(), head.weight.cols()), Vector::Zero(head.bias.size())}};
}

float formula_step(SgdState& state, const Matrix& features, const Labels& labels, const StepSettings& settings) {
  Matrix error = state.head.with_only(settings.kept).probabilities(features);
  float loss = 0;
  for (Index row = 0; row < error.rows(); ++row) {
    float& own = error(row, labels[static_cast<std::size_t>(row)]);
    loss -= std::log(std::max(own, std::numeric_limits<float>::min()));
    own -= 1;
  }
  const auto count = static_cast<float>(error.rows());
  error /= count;
  move<Matrix>(state.head.weight, state.buffers.weight, error.transpose() * features, settings.anchor.weight, settings);
  move<Vector>(state.head.bias, state.buffers.bias, error.colwise().sum(), settings.anchor.bias, settings);
  return loss / count;
}

SgdFit fit_sgd(const Head& start, const Matrix& features, const Labels& labels, const Schedule& schedule,
               const Step& step, const Mask& kept, const Deadline& deadline, const Listener& listener) {
  const std::size_t count = labels.size(), batch_size = static_cast<std::size_t>(schedule.batch_size);
  const StepSettings settings{static_cast<float>(schedule.lr),
                              static_cast<float>(schedule.momentum),
                              static_cast<float>(schedule.weight_decay),
                              static_cast<float>(schedule.penalty / static_cast<double>(count)),
                              start,
                              kept};
  SgdState state = sgd_start(start);
  for (int epoch = 1; epoch <= schedule.epochs; ++epoch) {
    const auto order = epoch_order(count, schedule.seed, static_cast<std::uint64_t>(epoch));
    for (std::size_t first = 0; first < count; first += batch_size) {
      const std::vector<Index> batch(order.begin() + static_cast<std::ptrdiff_t>(first),
                                     order.begin() + static_cast<std::ptrdiff_t>(std::min(first + batch_size, count)));
      step(state, rows_at(features, batch), labels_at(labels, batch), settings);
    }
    if (!state.head.is_finite()) {
      throw UserError("the head ran away in epoch " + std::to_string(epoch) + " at learning rate " +
                      in_decimals(schedule.lr) + "; choose a lower one");
    }
    if (listener) listener(epoch, state.head);
    if (is_past(deadline)) return {state.head, epoch == schedule.epochs};
  }
  return {state.head, true};
}

}  // namespace fbkit
