// fbkit-device: check a bundle, personalize its head, predict, without Python.
#include <sodium.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <iostream>
#include <memory>
#include <numeric>
#include <sstream>

#include "benching.h"
#include "console.h"
#include "errors.h"
#include "personalizing.h"
#include "self_test.h"
#include "version.h"

namespace fbkit {
namespace {

constexpr int kRefused = 2;

// What the commands take; each uses some of it.
struct Options {
  std::string bundle, data, profile, out, signed_by, solver = "exact", step = "graph", absent = "keep";
  std::vector<std::string> images;
  double penalty = 0, lr = 0, seconds = 0, unsure = 0, started = 0;
  int epochs = 0, batch_size = 0, turns = 5;
  std::uint64_t seed = 0;
  bool add_classes = false, dry_run = false, json = false, debug = false;
};

std::optional<Path> path_if_given(const std::string& text) {
  return text.empty() ? std::nullopt : std::optional<Path>(text);
}

std::string percent(double share) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f%%", share);
  return text;
}

std::string fixed(double value) {
  char text[64];
  std::snprintf(text, sizeof text, "%.3f", value);
  return text;
}

void run_check(const Options& options, const Console& console) {
  const Bundle bundle = Bundle::open(options.bundle, path_if_given(options.signed_by), true);
  const auto errors = run_self_test(bundle, [](const std::string&) {});
  const std::string runtime = std::string("executorch ") + kExecuTorchVersion;
  const std::size_t files = bundle.manifest().files.size();
  if (options.json) {
    console.json({{"ok", true}, {"files", files}, {"runtime", runtime}, {"errors", errors}});
    return;
  }
  console.line(options.bundle + ": good");
  console.line(std::to_string(files) + " files are as the manifest says; the body runs here on " + runtime);
  for (const auto& [name, value] : errors) {
    std::ostringstream text;
    text << "  " << name << ": " << std::scientific << std::setprecision(1) << value;
    std::string line = text.str();
    std::replace(line.begin(), line.end(), '_', ' ');
    console.line(line);
  }
}

Recipe recipe_of(const Options& options, const Defaults& defaults, const CLI::App& command) {
  const auto is_given = [&](const char* name) { return command.count(name) > 0; };
  const bool sgd = options.solver == "sgd";
  if (!sgd) {
    for (const char* name : {"--epochs", "--lr", "--batch-size", "--seed", "--step"}) {
      if (is_given(name)) {
        throw UserError(std::string(name) + " is for --solver sgd; exact has nothing to choose but --penalty");
      }
    }
  }
  Recipe recipe = default_recipe(defaults, sgd);
  recipe.leaves_absent_out = options.absent == "mask";
  if (is_given("--penalty")) recipe.penalty = options.penalty;
  if (!sgd) {
    if (recipe.penalty <= 0)
      throw UserError("--penalty 0: must be above 0 for --solver exact, or there is no one minimum");
    return recipe;
  }
  recipe.schedule->penalty = recipe.penalty;
  if (is_given("--epochs")) recipe.schedule->epochs = options.epochs;
  if (is_given("--lr")) recipe.schedule->lr = options.lr;
  if (is_given("--batch-size")) recipe.schedule->batch_size = options.batch_size;
  recipe.schedule->seed = options.seed;
  return recipe;
}

std::string joined(const std::map<std::string, double>& values) {
  std::string text;
  for (const auto& [name, value] : values) text += (text.empty() ? "" : ", ") + name + " " + fixed(value);
  return text;
}

void run_personalize(const Options& options, const Console& console, const CLI::App& command) {
  const Bundle bundle = Bundle::open(options.bundle, path_if_given(options.signed_by));
  Task task;
  task.recipe = recipe_of(options, bundle.manifest().personalization, command);
  task.step_by_graph = options.step == "graph";
  if (command.count("--seconds")) task.seconds = options.seconds;
  task.new_classes = options.add_classes;
  task.dry_run = options.dry_run;
  const FitResult result = personalize(bundle, options.data, options.profile, task, console.progress(options.json));
  if (options.json) {
    console.json(result.to_json());
    return;
  }
  std::size_t count = 0;
  for (const auto& [name, pictures] : result.pictures) count += pictures;
  console.line(std::to_string(count) + " pictures in " + std::to_string(result.pictures.size()) +
               " classes; the body ran on " + std::to_string(result.computed) + " new ones");
  console.line("loss on these pictures: " + fixed(result.loss_before) + " -> " + fixed(result.loss_after));
  if (!result.verdict.losses.empty()) console.line("loss on pictures not fitted on: " + joined(result.verdict.losses));
  console.line("seconds: " + joined(result.seconds));
  console.line(result.verdict.reason);
  if (options.dry_run) {
    console.line("nothing was changed");
  } else {
    console.line((result.head ? "personal head " + *result.head : "the shipped head") + " is in use in " +
                 options.profile);
  }
}

void run_evaluate(const Options& options, const Console& console) {
  const Bundle bundle = Bundle::open(options.bundle, path_if_given(options.signed_by));
  const Evaluation found =
      evaluate(bundle, options.data, path_if_given(options.profile), console.progress(options.json));
  if (options.json) {
    console.json(found.to_json());
    return;
  }
  console.line(std::to_string(found.pictures) + " pictures");
  const auto say = [&](const char* name, const Score& score) {
    console.line(name + percent(score.accuracy) + " correct, loss " + fixed(score.loss));
  };
  say("shipped head:  ", found.shipped);
  if (found.personal) say("personal head: ", *found.personal);
}

void run_predict(const Options& options, const Console& console) {
  const Bundle bundle = Bundle::open(options.bundle, path_if_given(options.signed_by));
  const Heads heads = read_heads(bundle, path_if_given(options.profile));
  const std::vector<Path> paths(options.images.begin(), options.images.end());
  const Matrix features = glance_at(bundle, paths, console.progress(options.json));
  const Matrix probabilities = (heads.personal ? *heads.personal : heads.shipped).probabilities(features);
  OrderedJson predictions = OrderedJson::array();
  for (Index row = 0; row < probabilities.rows(); ++row) {
    const auto own = probabilities.row(row);
    std::vector<std::size_t> ranked(heads.classes.size());
    std::iota(ranked.begin(), ranked.end(), std::size_t{0});
    const auto of = [&](std::size_t place) { return own[static_cast<Index>(place)]; };
    std::stable_sort(ranked.begin(), ranked.end(), [&](auto one, auto other) { return of(one) > of(other); });
    const std::string& image = options.images[static_cast<std::size_t>(row)];
    const bool is_sure = static_cast<double>(of(ranked[0])) >= options.unsure;
    if (options.json) {
      OrderedJson all = OrderedJson::object();
      for (std::size_t place = 0; place < ranked.size(); ++place) all[heads.classes[place]] = of(place);
      predictions.push_back({{"picture", image},
                             {"label", is_sure ? OrderedJson(heads.classes[ranked[0]]) : OrderedJson()},
                             {"probabilities", all}});
      continue;
    }
    std::string likely;
    for (std::size_t place = 0; place < std::min<std::size_t>(3, ranked.size()); ++place) {
      likely += (place ? ", " : "") + heads.classes[ranked[place]] + " " +
                percent(100.0 * static_cast<double>(of(ranked[place])));
    }
    console.line(image + ": " + (is_sure ? "" : "unsure: ") + likely);
  }
  if (options.json) console.json({{"predictions", predictions}});
}

void run_bench(const Options& options, const Console& console) {
  const std::string program = std::filesystem::canonical("/proc/self/exe");
  const Json found = bench(options.bundle, path_if_given(options.signed_by), options.data, options.turns, program,
                           console.progress(options.json));
  const std::string text = found.dump(-1, ' ', true, Json::error_handler_t::replace) + "\n";
  if (options.json) console.json(found);
  if (!options.out.empty()) write_atomic(options.out, Bytes(text.begin(), text.end()));
  if (options.json) return;
  const auto milliseconds = [](const Json& seconds) { return fixed(1000 * seconds.get<double>()) + " ms"; };
  for (const Json& one : found["latency"]) {
    console.line(std::to_string(one["batch"].get<int>()) + " at once: median " + milliseconds(one["median"]) +
                 ", 95th percentile " + milliseconds(one["p95"]) + ", 99th " + milliseconds(one["p99"]));
  }
  for (const Json& one : found["learning"]) {
    const Json &first = one["points"].front(), &last = one["points"].back();
    console.line(one["solver"].get<std::string>() + ": head found after " + milliseconds(last["seconds"]) + "; " +
                 percent(first["accuracy"].get<double>()) + " -> " + percent(last["accuracy"].get<double>()));
  }
}

// As CLI::Range, which takes what is not a number for one within.
CLI::Validator from_to(double least, double most) {
  const auto check = [least, most](std::string& text) {
    double value = 0;
    const bool fits = CLI::detail::lexical_cast(text, value) && value >= least && value <= most;
    std::ostringstream words;
    words << "must be a number from " << least << " to " << most;
    return fits ? std::string() : words.str();
  };
  return CLI::Validator(check, "NUMBER");
}

void add_common(CLI::App& command, Options& options) {
  command.add_option("bundle", options.bundle, "Bundle folder.")->required();
  command.add_option("--signed-by", options.signed_by, "Public key that the bundle must be signed by.")
      ->envname("FBKIT_SIGNED_BY");
  command.add_flag("--json", options.json, "Print one JSON object.");
}

void add_personalize(CLI::App& command, Options& options) {
  command.add_option("data", options.data, "Folder with one folder of pictures for each class.")->required();
  command.add_option("--profile", options.profile, "Profile folder that keeps the result; made if there is none.")
      ->required();
  command.add_option("--solver", options.solver, "exact: to the minimum; sgd: so many epochs.")
      ->check(CLI::IsMember({"exact", "sgd"}))
      ->capture_default_str();
  command.add_option("--penalty", options.penalty, "Pull to the shipped head.  [the bundle's]")
      ->check(from_to(0.0, 1e30));
  command.add_option("--epochs", options.epochs, "sgd: passes over the pictures.  [the bundle's]")
      ->check(CLI::Range(1, 100'000));
  command.add_option("--lr", options.lr, "sgd: learning rate.  [the bundle's]")->check(from_to(1e-9, 1e3));
  command.add_option("--batch-size", options.batch_size, "sgd: pictures a step.  [the bundle's]")
      ->check(CLI::Range(1, 1'000'000));
  command.add_option("--seed", options.seed, "sgd: of the order of pictures.")->capture_default_str();
  command.add_option("--step", options.step, "sgd: by the bundle's own step graph, or by its formula.")
      ->check(CLI::IsMember({"graph", "formula"}))
      ->capture_default_str();
  command.add_option("--absent", options.absent, "Classes without pictures: predicted all the same, or left out.")
      ->check(CLI::IsMember({"keep", "mask"}))
      ->capture_default_str();
  command.add_option("--seconds", options.seconds, "Time for solving and judging.  [no limit]")
      ->check(from_to(0.0, 1e9));
  command.add_flag("--add-classes", options.add_classes, "Take folders of other names for new classes.");
  command.add_flag("--dry-run", options.dry_run, "Change nothing; tell what would be.");
}

int run(int count, char** arguments) {
  Options options;
  CLI::App app("Check a bundle, personalize its head, predict.", "fbkit-device");
  app.require_subcommand(1);
  app.fallthrough();
  app.set_version_flag("--version", kVersion);
  app.add_flag("--debug", options.debug, "Show what ExecuTorch says.");
  auto& check = *app.add_subcommand("check", "Verify a bundle's files and run its self-test on this machine.");
  auto& personalize =
      *app.add_subcommand("personalize", "Fit the bundle's head to local pictures, keep it in a profile.");
  auto& predict = *app.add_subcommand("predict", "Predict the classes of pictures.");
  auto& evaluate = *app.add_subcommand("evaluate", "Measure accuracy and loss on labelled pictures.");
  auto& bench = *app.add_subcommand("bench", "Measure opening, predicting and personalizing on this machine.");
  for (CLI::App* command : {&check, &personalize, &predict, &evaluate, &bench}) add_common(*command, options);
  add_personalize(personalize, options);
  predict.add_option("images", options.images, "Pictures.")->required();
  evaluate.add_option("data", options.data, "Folder with one folder of pictures for each class.")->required();
  predict.add_option("--unsure", options.unsure, "Below this probability of the likeliest class, name none.")
      ->check(from_to(0.0, 1.0));
  bench.add_option("pictures", options.data, "Folder train/CLASS/PICTURE and test/CLASS/PICTURE.")->required();
  bench.add_option("--out", options.out, "File for the result, for fbkit bench report.");
  bench.add_option("--turns", options.turns, "How often processes are started and heads are fitted.")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  auto& bench_start = *app.add_subcommand("bench-start", "")->group("");  // what bench starts
  bench_start.add_option("bundle", options.bundle)->required();
  bench_start.add_option("pictures", options.data)->required();
  bench_start.add_option("started", options.started)->required();
  for (CLI::App* command : {&predict, &evaluate}) {
    command->add_option("--profile", options.profile, "Profile folder; without one the shipped head is used.");
  }
  try {
    app.parse(count, arguments);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // help, version
    std::cerr << "fbkit-device: " << printable(error.what()) << "; see fbkit-device --help\n";
    return kRefused;
  }
  if (sodium_init() < 0) throw std::runtime_error("libsodium cannot be started");
  const Console console(options.debug);
  try {
    if (check.parsed()) run_check(options, console);
    if (personalize.parsed()) run_personalize(options, console, personalize);
    if (predict.parsed()) run_predict(options, console);
    if (evaluate.parsed()) run_evaluate(options, console);
    if (bench.parsed()) run_bench(options, console);
    if (bench_start.parsed()) console.json(fbkit::bench_start(options.bundle, options.data, options.started));
  } catch (const UserError& error) {
    console.error(error.what());
    return kRefused;
  } catch (const std::bad_alloc&) {
    console.error("this machine has too little memory for it");
    return kRefused;
  } catch (const std::filesystem::filesystem_error& error) {
    console.error(error.path1().string() + ": " + error.code().message());
    return kRefused;
  }
  return std::fflush(stdout) ? 1 : 0;
}

}  // namespace
}  // namespace fbkit

int main(int count, char** arguments) { return fbkit::run(count, arguments); }
