#include "manifest.h"

#include <algorithm>
#include <set>

#include "identity.h"

namespace fbkit {
namespace {

constexpr int kVersion = 2, kMostSide = 4096, kMostClasses = 100'000, kMostFeatures = 1'000'000;
constexpr std::int64_t kMostFileBytes = INT64_C(2) << 30;
constexpr double kLeastStd = 1e-6;
constexpr std::size_t kMostNameBytes = 800;  // 200 letters

bool is_letter_or_digit(char letter) {
  return (letter >= '0' && letter <= '9') || (letter >= 'A' && letter <= 'Z') || (letter >= 'a' && letter <= 'z');
}

bool is_plain_name(const std::string& name) {
  const auto may_follow = [](char letter) { return is_letter_or_digit(letter) || std::string("_.-").find(letter) < 3; };
  return !name.empty() && name.size() <= 64 && is_letter_or_digit(name[0]) &&
         std::all_of(name.begin(), name.end(), may_follow) && name != "manifest.json" && name != "signature.json";
}

std::map<std::string, FileEntry> parse_files(const Fields& section) {
  std::map<std::string, FileEntry> files;
  for (const auto& [name, unused] : section.values().items()) {
    if (!is_plain_name(name)) throw section.error(name.substr(0, 70), "is not a plain file name");
    const Fields entry = section.section(name);
    const std::string digest = entry.text("sha256");
    if (!is_digest(digest)) throw entry.error("sha256", "must be 64 hexadecimal digits");
    files[name] = {static_cast<std::uint64_t>(entry.integer("bytes", 1, kMostFileBytes)), digest};
  }
  return files;
}

InputSpec parse_input(const Fields& section) {
  InputSpec spec;
  spec.channels = static_cast<int>(section.integer("channels", 1, 3));
  if (spec.channels == 2) throw section.error("channels", "must be 1 (grey) or 3 (RGB)");
  spec.height = static_cast<int>(section.integer("height", 1, kMostSide));
  spec.width = static_cast<int>(section.integer("width", 1, kMostSide));
  spec.mean = section.numbers("mean", static_cast<std::size_t>(spec.channels));
  spec.std = section.numbers("std", static_cast<std::size_t>(spec.channels), kLeastStd);
  return spec;
}

Defaults parse_defaults(const Fields& section) {
  Defaults defaults;
  defaults.epochs = static_cast<int>(section.integer("epochs", 1, 100'000));
  defaults.lr = section.number("lr", 0);
  defaults.momentum = section.number("momentum");
  if (defaults.momentum < 0 || defaults.momentum >= 1) {
    throw section.error("momentum", "must be at least 0 and below 1");
  }
  defaults.batch_size = static_cast<int>(section.integer("batch_size", 1, 1'000'000));
  defaults.penalty = section.number("penalty", 0);
  return defaults;
}

std::vector<int> parse_batches(const Fields& body) {
  const auto found = body.integers("batch_sizes", 1, kMostSide);
  std::vector<int> batches(found.begin(), found.end());
  std::sort(batches.begin(), batches.end());
  if (batches.empty() || batches[0] != 1) throw body.error("batch_sizes", "must hold 1");
  if (std::adjacent_find(batches.begin(), batches.end()) != batches.end()) {
    throw body.error("batch_sizes", "holds a number twice");
  }
  return batches;
}

// The parts that people read, and this program does not: they must be objects all the same.
void check_the_rest(const Fields& top, int version) {
  top.section("provenance");
  top.section("verification");
  if (version > 1) top.section("graph");
}

}  // namespace

int InputSpec::at_once() const { return std::max(1, std::min(32, (1 << 17) / (height * width))); }

bool is_class_name(const std::string& name) {
  return !name.empty() && name.size() <= kMostNameBytes && name[0] != '.' && name.find('/') == std::string::npos &&
         printable(name) == name;
}

std::vector<std::string> parse_classes(const Fields& top) {
  const Json& found = top.value("classes");
  if (!found.is_array() || found.size() < 2 || found.size() > kMostClasses) {
    throw top.error("classes", "must be a list of 2 to " + std::to_string(kMostClasses) + " names");
  }
  std::vector<std::string> classes;
  for (const Json& name : found) {
    if (!name.is_string() || !is_class_name(name.get<std::string>())) {
      throw top.error("classes", "holds a name that cannot name a folder");
    }
    classes.push_back(name.get<std::string>());
  }
  if (std::set<std::string>(classes.begin(), classes.end()).size() < classes.size()) {
    throw top.error("classes", "holds a name twice");
  }
  return classes;
}

Manifest parse_manifest(const Bytes& data, const Path& path) {
  const Json json = parse_json(data, path);
  const Fields top(path, "", json);
  if (top.text("schema") != "fbkit.bundle") throw top.error("schema", "must be 'fbkit.bundle'");
  Manifest manifest;
  manifest.version = static_cast<int>(top.integer("version", 1, 1'000'000));
  if (manifest.version > kVersion) {
    throw top.error("version", "is " + std::to_string(manifest.version) + ", this fbkit-device reads versions up to " +
                                   std::to_string(kVersion) + "; upgrade it to open this bundle");
  }
  if (top.text("target") != "executorch") {
    throw top.error("target",
                    "is '" + top.text("target") + "', fbkit-device runs executorch; export with --target executorch");
  }
  const bool has_more = manifest.version > 1;
  manifest.precision = top.text("precision");
  if (manifest.precision != "fp32" && manifest.precision != "int8")
    throw top.error("precision", "is neither fp32 nor int8");
  manifest.classes = parse_classes(top);
  manifest.input = parse_input(top.section("input"));
  manifest.features = static_cast<int>(top.integer("features", 1, kMostFeatures));
  const Fields body = top.section("body"), step = top.section("head_step"), probe = top.section("probe");
  manifest.body = body.text("file");
  manifest.body_batches = parse_batches(body);
  manifest.head = top.section("head").text("file");
  manifest.head_step = step.text("file");
  manifest.step_batch = static_cast<int>(step.integer("batch_size", 1, kMostSide));
  const auto classes = static_cast<std::int64_t>(manifest.classes.size());
  manifest.step_classes = static_cast<int>(has_more ? step.integer("classes", classes, kMostClasses) : classes);
  manifest.probe = probe.text("file");
  manifest.tolerance = probe.number("tolerance", 0);
  if (manifest.tolerance > (manifest.precision == "fp32" ? 0.01 : 0.1)) throw probe.error("tolerance", "is too large");
  manifest.files = parse_files(top.section("files"));
  if (has_more) manifest.personalization = parse_defaults(top.section("personalization"));
  check_the_rest(top, manifest.version);
  if (has_more && top.has("model")) manifest.model = top.section("model").text("file");
  for (const std::string& name : {manifest.body, manifest.head, manifest.head_step, manifest.probe, manifest.model}) {
    if (!name.empty() && !manifest.files.count(name)) throw top.error("files", "lacks " + name);
  }
  manifest.identity = identity_of(json);
  return manifest;
}

}  // namespace fbkit
