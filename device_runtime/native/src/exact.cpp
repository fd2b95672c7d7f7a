#include "exact.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "errors.h"

namespace fbkit {
namespace {

// Found by trial, on features of several widths, scales and overlaps.
constexpr int kMostProducts = 2000;                                    // with the Hessian, in all
constexpr int kFirstEffort = 10, kLeastEffort = 5, kMostEffort = 200;  // products for one direction
constexpr double kResidual = 0.3;  // of the gradient: with less left, a direction is good enough
constexpr double kSlope = 0.1;     // of the slope at the start: with less left, a step is long enough
constexpr int kMostTrials = 50;    // of a step's length

MatrixD softmax(const MatrixD& logits) {
  MatrixD out = (logits.colwise() - logits.rowwise().maxCoeff()).array().exp();
  const Eigen::VectorXd sums = out.rowwise().sum();
  out.array().colwise() /= sums.array();
  return out;
}

template <typename A, typename B>
double dot(const A& one, const B& other) {
  return one.cwiseProduct(other).template cast<double>().sum();
}

// Weight and bias in one, [classes, F + 1]: a bias is the weight of a feature that is 1 everywhere.
MatrixD as_one(const Head& head) {
  MatrixD out(head.classes(), head.weight.cols() + 1);
  out << head.weight.cast<double>(), head.bias.transpose().cast<double>();
  return out;
}

struct Direction {
  MatrixD step;
  int products;
};

// The objective, over how far weight and bias moved from the anchor. Logits are [N, classes].
class Problem {
 public:
  Problem(const Head& anchor, const Matrix& features, const Labels& labels, double penalty)
      : labels_(labels), penalty_(penalty), inputs32_(features.rows(), features.cols() + 1), anchor_(as_one(anchor)) {
    inputs32_ << features, Eigen::VectorXf::Ones(features.rows());
    inputs_ = inputs32_.cast<double>();
  }

  const MatrixD& anchor() const { return anchor_; }

  MatrixD logits(const MatrixD& parameters) const { return inputs_ * parameters.transpose(); }

  double objective(const MatrixD& logits, const MatrixD& moved) const {
    double sum = penalty_ / 2 * moved.squaredNorm();
    for (Index row = 0; row < logits.rows(); ++row) {
      const double largest = logits.row(row).maxCoeff();
      sum += std::log((logits.row(row).array() - largest).exp().sum()) + largest - logits(row, label(row));
    }
    return sum;
  }

  double objective_of(const Head& head) const {
    const MatrixD parameters = as_one(head);
    return objective(logits(parameters), parameters - anchor_);
  }

  MatrixD gradient(MatrixD probabilities, const MatrixD& moved) const {
    for (Index row = 0; row < probabilities.rows(); ++row) probabilities(row, label(row)) -= 1;
    return probabilities.transpose() * inputs_ + penalty_ * moved;
  }

  Head head_at(const MatrixD& moved) const {
    const Matrix parameters = (anchor_ + moved).cast<float>();
    return {parameters.leftCols(parameters.cols() - 1), parameters.rightCols(1).transpose()};
  }

  // A direction in which the objective falls: conjugate gradients on Hessian * direction = -gradient, in float32, which
  // is twice as fast; what rounding spoils, the next gradient puts right. The Hessian itself is never formed.
  Direction newton_direction(const MatrixD& gradient, const MatrixD& probabilities, int effort) const {
    const Matrix weights = probabilities.cast<float>();
    const auto penalty = static_cast<float>(penalty_);
    const double norm = gradient.norm();
    Matrix residual = (-gradient / norm).cast<float>();
    Matrix direction = Matrix::Zero(residual.rows(), residual.cols()), search = residual;
    double left = 1;
    int used = 0;
    while (used < effort) {
      ++used;
      Matrix change = (inputs32_ * search.transpose()).cwiseProduct(weights);
      const Eigen::VectorXf sums = change.rowwise().sum();
      change -= weights.cwiseProduct(sums.replicate(1, weights.cols()));
      const Matrix product = change.transpose() * inputs32_ + penalty * search;
      const double curvature = dot(search, product);
      if (!(curvature > 0 && std::isfinite(curvature))) break;  // by rounding alone
      const auto length = static_cast<float>(left / curvature);
      direction += length * search;
      residual -= length * product;
      const double before = left;
      left = dot(residual, residual);
      if (left <= kResidual * kResidual) break;
      search = residual + static_cast<float>(left / before) * search;
    }
    MatrixD found = norm * direction.cast<double>();
    if (!(dot(found, gradient) < 0)) found = -gradient;  // also where it is not a number
    return {found, used};
  }

  // How far to go along the direction; 0 if rounding hides every way down. change is how the logits change with a step
  // of 1, slope the objective's at the start. Newton's method in one dimension, kept between points where the objective
  // falls and rises: each trial costs no pass over the inputs.
  double step_length(const MatrixD& moved, const MatrixD& logits, const MatrixD& direction, const MatrixD& change,
                     double slope) const {
    double low = 0, high = std::numeric_limits<double>::infinity(), step = 1, of_labels = 0;
    const double across = dot(moved, direction), along = direction.squaredNorm();
    for (Index row = 0; row < change.rows(); ++row) of_labels += change(row, label(row));
    for (int trial = 0; trial < kMostTrials; ++trial) {
      const MatrixD weighted = softmax(logits + step * change).cwiseProduct(change);
      const Eigen::VectorXd means = weighted.rowwise().sum();
      const double now = means.sum() - of_labels + penalty_ * (across + step * along);
      if (std::abs(now) <= kSlope * std::abs(slope)) return step;
      (now < 0 ? low : high) = step;
      const double curvature = dot(weighted, change) - means.squaredNorm() + penalty_ * along;
      step -= now / curvature;
      if (!(low < step && step < high)) step = std::isinf(high) ? 2 * low : low > 0 ? (low + high) / 2 : high / 10;
    }
    return low;
  }

 private:
  Index label(Index row) const { return labels_[static_cast<std::size_t>(row)]; }

  const Labels& labels_;
  double penalty_;
  Matrix inputs32_;
  MatrixD inputs_, anchor_;
};

}  // namespace

ExactFit fit_exact(const Head& start, const Matrix& features, const Labels& labels, double penalty, double gap,
                   const Deadline& deadline, const Listener& listener) {
  if (!features.allFinite()) {
    throw UserError("the features of these pictures are not finite numbers, so no head can be fitted to them");
  }
  const Problem problem(start, features, labels, penalty);
  const auto count = static_cast<double>(labels.size());
  MatrixD moved = MatrixD::Zero(problem.anchor().rows(), problem.anchor().cols());
  MatrixD logits = problem.logits(problem.anchor());
  const double at_start = problem.objective(logits, moved);
  int iterations = 0, products = 0, effort = kFirstEffort;
  double bound = 0;
  bool finished = true;
  while (true) {
    const MatrixD probabilities = softmax(logits);
    const MatrixD gradient = problem.gradient(probabilities, moved);
    bound = gradient.squaredNorm() / (2 * penalty);
    if (bound <= gap * count || products >= kMostProducts) break;
    if (iterations && is_past(deadline)) {
      finished = false;
      break;
    }
    const Direction direction = problem.newton_direction(gradient, probabilities, effort);
    const MatrixD change = problem.logits(direction.step);
    const double slope = dot(gradient, direction.step);
    const double step = problem.step_length(moved, logits, direction.step, change, slope);
    if (step == 0) break;
    moved += step * direction.step;
    logits += step * change;
    ++iterations;
    products += direction.products;
    // Near 1, the quadratic model was right, and its minimum is worth more work.
    effort = 0.5 < step && step < 2 ? std::min(2 * effort, kMostEffort) : std::max(effort / 2, kLeastEffort);
    if (listener) listener(iterations, problem.head_at(moved));
  }
  const double least = problem.objective(logits, moved) - bound;
  Head found = problem.head_at(moved);
  double reached = problem.objective_of(found);
  if (!(reached <= at_start)) {  // what there was to gain is lost in rounding to float32
    found = start;
    reached = at_start;
  }
  return {found, std::max(reached - least, 0.0) / count, finished};
}

}  // namespace fbkit
