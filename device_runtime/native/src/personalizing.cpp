#include "personalizing.h"

#include <algorithm>

#include "errors.h"

namespace fbkit {
namespace {

constexpr double kWorstLoss = 20;  // nats; a class that is left out has no probability at all

// A candidate, what was decided on it, and the shipped head as large as it.
struct Solved {
  Fit candidate;
  Verdict verdict;
  Head shipped;
};

std::optional<Present> present_head(const Profile& profile, const Memory& memory) {
  const HeadEntry* entry = profile.state().head_in_use();
  if (!entry) return std::nullopt;
  Mask rows;
  for (const std::int64_t number : memory.numbers) rows.push_back(number <= entry->seen);
  return Present{
      recipe_from(Fields(profile.folder() / "profile.json", "recipe of " + entry->file + ": ", entry->recipe)), rows};
}

Step step_of(const Bundle& bundle, const Task& task) {
  if (!task.recipe.schedule || !task.step_by_graph) return formula_step;
  auto graph = std::make_shared<GraphStep>(bundle.graph_step());
  return [graph](SgdState& state, const Matrix& features, const Labels& labels, const StepSettings& settings) {
    return (*graph)(state, features, labels, settings);
  };
}

Solved solve(const Bundle& bundle, std::size_t classes, const Memory& memory, const std::optional<Present>& present,
             const Task& task, StopWatch& watch) {
  if (!memory.size()) throw UserError("there are no pictures to fit a head to; add some first");
  Mask chances(classes, true);  // a class of the device's own that has no picture is not predicted
  for (std::size_t label = bundle.manifest().classes.size(); label < classes; ++label) {
    chances[label] = std::count(memory.labels.begin(), memory.labels.end(), static_cast<std::int64_t>(label)) > 0;
  }
  const Head start = bundle.head().grown(chances);
  Deadline middle, deadline;
  if (task.seconds) {
    using Clock = std::chrono::steady_clock;
    const auto seconds = [](double value) {
      return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(value));
    };
    middle = Clock::now() + seconds(*task.seconds / 2);
    deadline = Clock::now() + seconds(*task.seconds);
  }
  Fit candidate =
      fit(start, memory.features, memory.labels, task.recipe, step_of(bundle, task), middle, kGap, task.listener);
  watch.lap("solver");
  Verdict verdict = judge(start, memory.features, memory.labels, task.recipe, present, deadline);
  watch.lap("judging");
  return {std::move(candidate), std::move(verdict), start};
}

// Do as was decided.
void take(Profile& profile, const Solved& solved, const Recipe& recipe) {
  const Json how = recipe.to_json(), note = solved.verdict.to_json();
  if (solved.verdict.chosen == Choice::kPresent) {
    profile.keep_in_use(how, note);
  } else if (solved.verdict.chosen == Choice::kShipped) {
    profile.take_into_use(std::nullopt, how, note);
  } else {
    profile.take_into_use(solved.candidate.head.with_only(solved.candidate.kept), how, note);
  }
}

// Fit the head that has yet to be fitted since pictures were forgotten, if there is one.
void finish(const Bundle& bundle, Profile& profile) {
  if (!profile.state().refit) return;
  const Json refit = *profile.state().refit;
  Task task;
  task.recipe = recipe_from(Fields(profile.folder() / "profile.json", "refit.", refit));
  task.step_by_graph = false;  // batches of any size
  StopWatch watch;
  try {
    take(profile, solve(bundle, profile.classes().size(), profile.memory(), std::nullopt, task, watch), task.recipe);
  } catch (const UserError& error) {  // with fewer pictures a rate can be too high
    profile.take_into_use(std::nullopt, refit, {{"reason", error.what()}});
  }
}

// The profile to read; what a crash left unfinished there is finished first, unless another process is at it.
Profile profile_to_read(const Bundle& bundle, const Path& folder) {
  auto profile = find_profile(folder, bundle.manifest());
  if (!profile) {
    throw UserError(folder.string() +
                    ": no profile there; make one with: fbkit-device personalize BUNDLE DATA --profile " +
                    folder.string());
  }
  if (!profile->is_unfinished()) return *profile;
  try {
    ChangingProfile changing(folder, bundle.manifest());
    finish(bundle, *changing);
  } catch (const UserError&) {
  }
  return find_profile(folder, bundle.manifest()).value();
}

std::map<std::string, std::size_t> counts_of(const Memory& memory, const std::vector<std::string>& classes) {
  std::map<std::string, std::size_t> counts;
  for (const std::int64_t label : memory.labels) ++counts[classes[static_cast<std::size_t>(label)]];
  return counts;
}

FitResult result_of(const Solved& solved, std::optional<std::string> head, const Memory& memory,
                    const std::vector<std::string>& classes, const Arrived& given, const StopWatch& watch) {
  return {std::move(head),
          solved.verdict,
          counts_of(memory, classes),
          given.computed,
          solved.shipped.loss(memory.features, memory.labels),
          solved.candidate.head.loss(memory.features, memory.labels),
          solved.candidate.gap,
          solved.candidate.finished,
          watch.laps()};
}

// What a fit would find, with nothing changed.
FitResult imagine(const Bundle& bundle, const Arrived& given, std::optional<Profile>& profile, const Task& task,
                  StopWatch& watch) {
  std::vector<std::string> classes = profile ? profile->classes() : bundle.manifest().classes;
  Labels labels;
  for (const std::string& name : given.labels) {
    auto found = std::find(classes.begin(), classes.end(), name);
    if (found == classes.end()) found = classes.insert(classes.end(), name);
    labels.push_back(found - classes.begin());
  }
  const Memory known = profile ? profile->memory() : no_memory(bundle.manifest().features);
  const Memory added =
      known.new_among(given.digests, labels, given.features, profile ? profile->state().last_picture : 0);
  const Memory memory = known.without(added).with(added).within(profile ? profile->state().limits : Limits());
  const auto present = profile ? present_head(*profile, memory) : std::nullopt;
  const Solved solved = solve(bundle, classes.size(), memory, present, task, watch);
  return result_of(solved, std::nullopt, memory, classes, given, watch);
}

Score score_of(const Head& head, const Matrix& features, const Labels& labels) {
  return {head.accuracy(features, labels), head.losses(features, labels).cwiseMin(kWorstLoss).mean()};
}

}  // namespace

Json FitResult::to_json() const {
  return {{"head", head ? Json(*head) : Json()},
          {"verdict", verdict.to_json()},
          {"pictures", pictures},
          {"computed", computed},
          {"loss_before", loss_before},
          {"loss_after", loss_after},
          {"gap", gap ? Json(*gap) : Json()},
          {"finished", finished},
          {"seconds", seconds}};
}

FitResult personalize(const Bundle& bundle, const Path& data, const Path& folder, const Task& task,
                      const Progress& progress) {
  StopWatch watch;
  auto found = find_profile(folder, bundle.manifest());
  const auto pictures = read_class_folder(data, found ? found->classes() : bundle.manifest().classes, task.new_classes);
  const Arrived given = look_at_new(bundle, found ? &*found : nullptr, pictures, progress, watch);
  if (task.dry_run) return imagine(bundle, given, found, task, watch);
  ChangingProfile profile(folder, bundle.manifest());
  finish(bundle, *profile);
  profile->remember(given);
  watch.lap("write");
  const Memory memory = profile->memory();
  const Solved solved = solve(bundle, profile->classes().size(), memory, present_head(*profile, memory), task, watch);
  take(*profile, solved, task.recipe);
  watch.lap("write");
  return result_of(solved, profile->state().in_use, memory, profile->classes(), given, watch);
}

Heads read_heads(const Bundle& bundle, const std::optional<Path>& folder) {
  if (!folder) return {bundle.manifest().classes, bundle.head(), std::nullopt};
  Profile profile = profile_to_read(bundle, *folder);
  const auto personal = profile.head();  // first: where another process changes the profile, this reads it again
  const Mask unknown(profile.classes().size(), false);  // of a class that came later, a head knows nothing
  Heads heads{profile.classes(), bundle.head().grown(unknown), std::nullopt};
  if (personal) heads.personal = personal->grown(unknown);
  return heads;
}

Json Evaluation::to_json() const {
  return {{"pictures", pictures},
          {"shipped_accuracy", shipped.accuracy},
          {"shipped_loss", shipped.loss},
          {"personal_accuracy", personal ? Json(personal->accuracy) : Json()},
          {"personal_loss", personal ? Json(personal->loss) : Json()}};
}

Evaluation evaluate(const Bundle& bundle, const Path& data, const std::optional<Path>& profile,
                    const Progress& progress) {
  const Heads heads = read_heads(bundle, profile);
  std::vector<Path> paths;
  Labels labels;
  for (const LabelledPicture& picture : read_class_folder(data, heads.classes, false)) {
    paths.push_back(picture.path);
    labels.push_back(std::find(heads.classes.begin(), heads.classes.end(), picture.label) - heads.classes.begin());
  }
  const Matrix features = glance_at(bundle, paths, progress);
  Evaluation found{labels.size(), score_of(heads.shipped, features, labels), std::nullopt};
  if (heads.personal) found.personal = score_of(*heads.personal, features, labels);
  return found;
}

}  // namespace fbkit
