// Whether a new head may be taken into use: judged on pictures that it was not fitted on.
// docs/profile-format.md#never-worse
#pragma once

#include <map>
#include <string>

#include "fitting.h"

namespace fbkit {

enum class Choice { kShipped, kPresent, kCandidate };

const char* in_words(Choice choice);

struct Verdict {
  Choice chosen;
  bool verified;       // whether held-out pictures decided it
  std::string reason;  // a short sentence for people
  std::map<std::string, double> losses;
  int folds = 0;

  Json to_json() const;
};

// The recipe of the head in use, and which of the pictures it was fitted on.
struct Present {
  Recipe recipe;
  Mask rows;
};

Verdict judge(const Head& shipped, const Matrix& features, const Labels& labels, const Recipe& candidate,
              const std::optional<Present>& present, const Deadline& deadline);

}  // namespace fbkit
