// How a head is fitted, but for the pictures; docs/profile-format.md#recipes.
#pragma once

#include <optional>

#include "fields.h"
#include "manifest.h"
#include "sgd.h"

namespace fbkit {

struct Recipe {
  bool leaves_absent_out = false;  // classes without pictures: "absent" is "mask" if true, else "keep"
  double penalty = 1;
  std::optional<Schedule> schedule;  // of sgd, with the same penalty; none for exact

  Json to_json() const;
};

// What the bundle's manifest recommends.
Recipe default_recipe(const Defaults& defaults, bool sgd);

// Throws UserError if a key is missing or has an impossible value.
Recipe recipe_from(const Fields& fields);

}  // namespace fbkit
