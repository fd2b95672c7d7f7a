#include "shuffle.h"

#include <algorithm>
#include <numeric>

namespace fbkit {
namespace {

// Steele, Lea, Flood, OOPSLA 2014.
class SplitMix64 {
 public:
  explicit SplitMix64(std::uint64_t seed) : state_(seed) {}

  std::uint64_t draw() {
    state_ += 0x9E3779B97F4A7C15;
    std::uint64_t mixed = (state_ ^ (state_ >> 30)) * 0xBF58476D1CE4E5B9;
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB;
    return mixed ^ (mixed >> 31);
  }

 private:
  std::uint64_t state_;
};

}  // namespace

std::vector<std::size_t> epoch_order(std::size_t count, std::uint64_t seed, std::uint64_t epoch) {
  SplitMix64 generator(seed * 1'000'003 + epoch);
  std::vector<std::size_t> order(count);
  std::iota(order.begin(), order.end(), std::size_t{0});
  for (std::size_t place = count; place-- > 1;) {
    std::swap(order[place], order[generator.draw() % (place + 1)]);
  }
  return order;
}

std::vector<std::size_t> stratified_folds(const std::vector<std::int64_t>& labels, std::size_t folds,
                                          std::uint64_t seed) {
  auto order = epoch_order(labels.size(), seed, 0);
  std::stable_sort(order.begin(), order.end(), [&](auto one, auto other) { return labels[one] < labels[other]; });
  std::vector<std::size_t> fold(labels.size());
  for (std::size_t place = 0; place < order.size(); ++place) fold[order[place]] = place % folds;
  return fold;
}

}  // namespace fbkit
