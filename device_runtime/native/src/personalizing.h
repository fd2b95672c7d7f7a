// The device's whole job: look at local pictures once, fit the head, remember it, predict.
#pragma once

#include <optional>

#include "judging.h"
#include "looking.h"

namespace fbkit {

struct Task {
  Recipe recipe;
  bool step_by_graph = true;      // of sgd: the bundle's step graph, or the formula
  std::optional<double> seconds;  // what solving and judging may take together
  bool new_classes = false;       // whether a folder that names no known class adds one
  bool dry_run = false;           // change nothing
  Listener listener;              // of the fit
};

struct FitResult {
  std::optional<std::string> head;  // in use now; none for the shipped one
  Verdict verdict;
  std::map<std::string, std::size_t> pictures;  // that the fit saw, by class
  std::size_t computed = 0;                     // for how many of the pictures given the body had to run
  double loss_before = 0, loss_after = 0;       // on the same pictures, of the shipped and of the fitted head
  std::optional<double> gap;
  bool finished = true;
  std::map<std::string, double> seconds;

  Json to_json() const;
};

// Fit the shipped head to all pictures that are remembered, those of data among them, and take it into use if that is
// no loss. Throws UserError; nothing has changed then, but where the head runs away the pictures are remembered.
FitResult personalize(const Bundle& bundle, const Path& data, const Path& profile, const Task& task,
                      const Progress& progress);

// The classes, the device's own among them, and the shipped and the personal head for all of them.
struct Heads {
  std::vector<std::string> classes;
  Head shipped;
  std::optional<Head> personal;
};

// Throws UserError if there is no profile, or one of another bundle.
Heads read_heads(const Bundle& bundle, const std::optional<Path>& profile);

// Percent correct and mean cross-entropy.
struct Score {
  double accuracy, loss;
};

struct Evaluation {
  std::size_t pictures;
  Score shipped;
  std::optional<Score> personal;

  Json to_json() const;
};

Evaluation evaluate(const Bundle& bundle, const Path& data, const std::optional<Path>& profile,
                    const Progress& progress);

}  // namespace fbkit
