#include "recipe.h"

#include <cmath>

namespace fbkit {
namespace {

double number_from_0(const Fields& fields, const std::string& key) {
  const double value = fields.number(key);
  if (value < 0) throw fields.error(key, "must be at least 0");
  return value;
}

std::string choice(const Fields& fields, const std::string& key, const std::string& one, const std::string& other) {
  const std::string value = fields.text(key);
  if (value != one && value != other) throw fields.error(key, "must be one of: " + one + ", " + other);
  return value;
}

}  // namespace

Json Recipe::to_json() const {
  Json json = {
      {"solver", schedule ? "sgd" : "exact"}, {"absent", leaves_absent_out ? "mask" : "keep"}, {"penalty", penalty}};
  if (schedule) {
    json.update(Json{{"epochs", schedule->epochs},
                     {"lr", schedule->lr},
                     {"momentum", schedule->momentum},
                     {"batch_size", schedule->batch_size},
                     {"seed", schedule->seed},
                     {"weight_decay", schedule->weight_decay}});
  }
  return json;
}

Recipe default_recipe(const Defaults& defaults, bool sgd) {
  Recipe recipe;
  recipe.penalty = sgd ? 0 : defaults.penalty;
  if (sgd) recipe.schedule = Schedule{defaults.epochs, defaults.lr, defaults.momentum, defaults.batch_size, 0, 0, 0};
  return recipe;
}

Recipe recipe_from(const Fields& fields) {
  Recipe recipe;
  const bool sgd = choice(fields, "solver", "exact", "sgd") == "sgd";
  recipe.leaves_absent_out = choice(fields, "absent", "keep", "mask") == "mask";
  recipe.penalty = sgd ? number_from_0(fields, "penalty") : fields.number("penalty", 0);
  if (!sgd) return recipe;
  Schedule schedule;
  schedule.epochs = static_cast<int>(fields.integer("epochs", 1, 100'000));
  schedule.lr = fields.number("lr", 0);
  schedule.momentum = number_from_0(fields, "momentum");
  if (schedule.momentum >= 1) throw fields.error("momentum", "must be below 1");
  schedule.batch_size = static_cast<int>(fields.integer("batch_size", 1, 1'000'000));
  const Json& seed = fields.value("seed");
  if (!seed.is_number_unsigned()) throw fields.error("seed", "must be a whole number from 0 to 2^64 - 1");
  schedule.seed = seed.get<std::uint64_t>();
  schedule.weight_decay = number_from_0(fields, "weight_decay");
  schedule.penalty = recipe.penalty;
  recipe.schedule = schedule;
  return recipe;
}

}  // namespace fbkit
