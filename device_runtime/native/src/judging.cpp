#include "judging.h"

#include <Eigen/QR>
#include <algorithm>
#include <cmath>
#include <limits>

#include "errors.h"
#include "shuffle.h"

namespace fbkit {
namespace {

constexpr std::size_t kMostFolds = 5, kLeastPictures = 10;
constexpr double kGapOfAJudge = 1e-3;    // nats a picture: heads that differ by less are as good
const double kFloor = std::log(1e-6);    // of log-probabilities: no single picture outweighs all others
constexpr double kStandardErrors = 2.5;  // by so many a head has to show that it looks at the pictures

// How a head does on held-out pictures: each picture's log-loss, and what it were if the head was blind.
struct HeldOut {
  VectorD losses, blind;

  double loss() const { return losses.mean(); }

  // Whether it does better than if it was blind, by more than luck explains.
  bool sees() const {
    const VectorD gains = blind - losses;
    VectorD of_mean(gains.size());  // in log-loss, by the mean of both probabilities
    for (Index place = 0; place < gains.size(); ++place) {
      of_mean[place] = std::max(gains[place], 0.0) + std::log1p(std::exp(-std::abs(gains[place]))) - std::log(2.0);
    }
    const auto count = static_cast<double>(gains.size());
    const double mean = of_mean.mean();
    const double error = std::sqrt((of_mean.array() - mean).square().sum() / (count - 1)) / std::sqrt(count);
    return gains.mean() > 0 && mean > kStandardErrors * error;
  }
};

// How often each class is in these pictures.
std::vector<std::size_t> counts_of(const Labels& labels, std::size_t classes) {
  std::vector<std::size_t> counts(classes);
  for (const std::int64_t label : labels) ++counts[static_cast<std::size_t>(label)];
  return counts;
}

double log_sum(const Eigen::Ref<const VectorD>& logits, const Mask& among) {
  double largest = -std::numeric_limits<double>::infinity(), sum = 0;
  for (Index place = 0; place < logits.size(); ++place) {
    if (among[static_cast<std::size_t>(place)]) largest = std::max(largest, logits[place]);
  }
  if (std::isinf(largest)) return largest;
  for (Index place = 0; place < logits.size(); ++place) {
    if (among[static_cast<std::size_t>(place)]) sum += std::exp(logits[place] - largest);
  }
  return largest + std::log(sum);
}

// frequencies: how often each class is in the other folds.
void look(const Fit& fitted, const Matrix& features, const Labels& labels, const std::vector<std::size_t>& frequencies,
          const std::vector<Index>& places, HeldOut& found) {
  MatrixD logits = features.cast<double>() * fitted.head.weight.cast<double>().transpose();
  logits.rowwise() += fitted.head.bias.cast<double>();
  Mask seen(frequencies.size());
  double all = 0;
  for (std::size_t label = 0; label < frequencies.size(); ++label) {
    seen[label] = frequencies[label] > 0 && fitted.kept[label];
    if (frequencies[label] > 0) all += static_cast<double>(frequencies[label] + 1);
  }
  for (Index row = 0; row < logits.rows(); ++row) {
    const auto label = static_cast<std::size_t>(labels[static_cast<std::size_t>(row)]);
    const double normaliser = log_sum(logits.row(row), fitted.kept);
    const double share = std::log(static_cast<double>(frequencies[label] + 1) / all);
    const double own = fitted.kept[label] ? logits(row, static_cast<Index>(label)) : -INFINITY;
    const Index place = places[static_cast<std::size_t>(row)];
    found.losses[place] = -std::max(own - normaliser, kFloor);
    found.blind[place] = -std::max(log_sum(logits.row(row), seen) + share - normaliser, kFloor);
  }
}

// Head and features in as many dimensions as there are pictures, where these are few: no recipe's logits for these
// pictures change, and it takes far less time.
void into_their_span(Head& shipped, Matrix& features) {
  if (2 * features.rows() > features.cols()) return;
  const Eigen::HouseholderQR<Eigen::MatrixXf> factors(features.transpose());
  const Eigen::MatrixXf basis = factors.householderQ() * Eigen::MatrixXf::Identity(features.cols(), features.rows());
  shipped.weight = (shipped.weight * basis).eval();
  features = (features * basis).eval();
}

Verdict unjudged(const std::string& reason) { return {Choice::kCandidate, false, reason, {}, 0}; }

}  // namespace

const char* in_words(Choice choice) {
  return choice == Choice::kShipped ? "shipped" : choice == Choice::kPresent ? "present" : "candidate";
}

Json Verdict::to_json() const {
  return {
      {"chosen", in_words(chosen)}, {"verified", verified}, {"reason", reason}, {"losses", losses}, {"folds", folds}};
}

Verdict judge(const Head& shipped, const Matrix& features, const Labels& labels, const Recipe& candidate,
              const std::optional<Present>& present, const Deadline& deadline) {
  const std::size_t count = labels.size(), classes = static_cast<std::size_t>(shipped.classes());
  const auto sizes = counts_of(labels, classes);
  std::size_t rarest = count, kinds = 0;
  for (const std::size_t size : sizes) {
    if (size) rarest = std::min(rarest, size);
    kinds += size > 0;
  }
  if (count < kLeastPictures) {
    return unjudged("there are fewer than " + std::to_string(kLeastPictures) + " pictures to judge by");
  }
  if (rarest < 2) return unjudged("a class has only one picture to judge by");
  const std::size_t folds = std::min(kMostFolds, rarest);
  const auto fold_of = stratified_folds(labels, folds, 0);
  Head start = shipped;
  Matrix seen = features;
  into_their_span(start, seen);

  struct Contender {
    const Recipe* recipe;  // none for the shipped head
    Mask rows;             // what it may be fitted on
    HeldOut found;
  };
  const auto empty = [&] { return HeldOut{VectorD(static_cast<Index>(count)), VectorD(static_cast<Index>(count))}; };
  std::map<Choice, Contender> contenders;
  contenders[Choice::kShipped] = {nullptr, Mask(count, false), empty()};
  contenders[Choice::kCandidate] = {&candidate, Mask(count, true), empty()};
  if (present) contenders[Choice::kPresent] = {&present->recipe, present->rows, empty()};
  const Fit as_shipped{start, Mask(classes, true), std::nullopt, true};
  for (std::size_t fold = 0; fold < folds; ++fold) {
    std::vector<Index> held, others;
    for (std::size_t place = 0; place < count; ++place) {
      (fold_of[place] == fold ? held : others).push_back(static_cast<Index>(place));
    }
    const Matrix pictures = rows_at(seen, held);
    const Labels truth = labels_at(labels, held);
    const auto frequencies = counts_of(labels_at(labels, others), classes);
    for (auto& [choice, contender] : contenders) {
      std::vector<Index> own;
      for (const Index place : others) {
        if (contender.rows[static_cast<std::size_t>(place)]) own.push_back(place);
      }
      try {
        const Fit fitted = own.empty() ? as_shipped
                                       : fit(start, rows_at(seen, own), labels_at(labels, own), *contender.recipe,
                                             formula_step, deadline, kGapOfAJudge);
        look(fitted, pictures, truth, frequencies, held, contender.found);
      } catch (const UserError&) {  // it ran away
        for (const Index place : held) contender.found.losses[place] = contender.found.blind[place] = -kFloor;
      }
    }
    if (is_past(deadline)) {  // a fit may have been cut short
      return {
          present ? Choice::kPresent : Choice::kShipped, false, "the time was up before the head was judged", {}, 0};
    }
  }

  Choice chosen = Choice::kShipped;
  const auto is_able = [&](Choice choice) { return kinds == 1 || contenders.at(choice).found.sees(); };
  for (const Choice choice : {Choice::kPresent, Choice::kCandidate}) {  // ties go to what comes first
    if (contenders.count(choice) && is_able(choice) &&
        contenders.at(choice).found.loss() < contenders.at(chosen).found.loss()) {
      chosen = choice;
    }
  }
  Verdict verdict{chosen, true, "", {}, static_cast<int>(folds)};
  for (const auto& [choice, contender] : contenders) verdict.losses[in_words(choice)] = contender.found.loss();
  verdict.losses["constant"] = contenders.at(Choice::kCandidate).found.blind.mean();
  if (chosen == Choice::kCandidate) {
    verdict.reason = "the new head does best on held-out pictures";
  } else if (is_able(Choice::kCandidate)) {
    verdict.reason =
        std::string("the new head does no better on held-out pictures than the ") + in_words(chosen) + " head";
  } else {
    verdict.reason = "the new head does no better on held-out pictures than without looking at them";
  }
  return verdict;
}

}  // namespace fbkit
