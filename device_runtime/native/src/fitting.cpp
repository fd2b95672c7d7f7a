#include "fitting.h"

#include "exact.h"

namespace fbkit {
namespace {

std::vector<Index> places_of(const Mask& kept) {
  std::vector<Index> places;
  for (std::size_t label = 0; label < kept.size(); ++label) {
    if (kept[label]) places.push_back(static_cast<Index>(label));
  }
  return places;
}

// Solved for the rows that are kept alone: without a part in the softmax the others have no reason to move.
ExactFit fit_kept(const Head& start, const Matrix& features, const Labels& labels, const Mask& kept, double penalty,
                  double gap, const Deadline& deadline, const Listener& listener) {
  const std::vector<Index> places = places_of(kept);
  std::vector<std::int64_t> place_of(kept.size());
  Head part{rows_at(start.weight, places), Vector(static_cast<Index>(places.size()))};
  for (std::size_t row = 0; row < places.size(); ++row) {
    place_of[static_cast<std::size_t>(places[row])] = static_cast<std::int64_t>(row);
    part.bias[static_cast<Index>(row)] = start.bias[places[row]];
  }
  Labels among;
  for (const std::int64_t label : labels) among.push_back(place_of[static_cast<std::size_t>(label)]);
  const auto whole = [&](const Head& found) {
    Head head = start;
    for (std::size_t row = 0; row < places.size(); ++row) {
      head.weight.row(places[row]) = found.weight.row(static_cast<Index>(row));
      head.bias[places[row]] = found.bias[static_cast<Index>(row)];
    }
    return head;
  };
  const auto hear = [&](int iteration, const Head& found) { listener(iteration, whole(found)); };
  ExactFit found = fit_exact(part, features, among, penalty, gap, deadline, listener ? Listener(hear) : Listener());
  found.head = whole(found.head);
  return found;
}

}  // namespace

Fit fit(const Head& start, const Matrix& features, const Labels& labels, const Recipe& recipe, const Step& step,
        const Deadline& deadline, double gap, const Listener& listener) {
  Mask kept(static_cast<std::size_t>(start.classes()), !recipe.leaves_absent_out);
  for (const std::int64_t label : labels) kept[static_cast<std::size_t>(label)] = true;
  if (recipe.schedule) {
    SgdFit found = fit_sgd(start, features, labels, *recipe.schedule, step, kept, deadline, listener);
    return {std::move(found.head), kept, std::nullopt, found.finished};
  }
  ExactFit found = fit_kept(start, features, labels, kept, recipe.penalty, gap, deadline, listener);
  return {std::move(found.head), kept, found.gap, found.finished};
}

}  // namespace fbkit
