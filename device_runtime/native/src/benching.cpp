#include "benching.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "errors.h"
#include "facts.h"
#include "personalizing.h"
#include "version.h"

namespace fbkit {
namespace {

constexpr int kBatches[] = {1, 4, 16, 32};
constexpr double kSeconds = 0.5, kMostSeconds = 5;  // of one latency
constexpr std::size_t kLeast = 20, kMost = 1000;    // calls
constexpr int kWarmUp = 3;

void silent(std::size_t, std::size_t) {}

// A folder that goes with its owner.
class Scratch {
 public:
  Scratch() {
    std::string path = std::filesystem::temp_directory_path() / "fbkit-XXXXXX";
    if (!::mkdtemp(path.data())) fail(path, "cannot be made");
    path_ = path;
  }
  ~Scratch() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  Path operator/(const std::string& name) const { return path_ / name; }

 private:
  Path path_;
};

// With linear interpolation, as numpy's.
double percentile(const std::vector<double>& sorted, double percent) {
  const double place = percent / 100 * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (place - std::floor(place)) * (sorted[above] - sorted[below]);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return percentile(values, 50);
}

Json latency_of(const Bundle& bundle, const std::vector<Pixels>& decoded, int batch) {
  std::vector<Pixels> pictures;
  for (std::size_t place = 0; place < static_cast<std::size_t>(batch); ++place)
    pictures.push_back(decoded[place % decoded.size()]);
  for (int call = 0; call < kWarmUp; ++call) bundle.head().probabilities(bundle.features(pictures));
  std::vector<double> seconds;
  const double began = seconds_now();
  while (seconds.size() < kMost) {
    const double started = seconds_now();
    bundle.head().probabilities(bundle.features(pictures));
    const double ended = seconds_now();
    seconds.push_back(ended - started);
    if (ended - began > (seconds.size() >= kLeast ? kSeconds : kMostSeconds)) break;
  }
  std::sort(seconds.begin(), seconds.end());
  return {{"threads", nullptr},
          {"batch", batch},
          {"count", seconds.size()},
          {"median", percentile(seconds, 50)},
          {"p95", percentile(seconds, 95)},
          {"p99", percentile(seconds, 99)}};
}

// The heads are kept as they come and judged afterwards, so that judging costs no measured time.
struct Round {
  int number;
  double seconds;
  Head head;
};

Json learning_of(const Bundle& bundle, const Path& train, bool sgd, int turns, const Matrix& features,
                 const Labels& labels) {
  Task task;
  task.recipe = default_recipe(bundle.manifest().personalization, sgd);
  std::vector<std::vector<Round>> all;
  Json stages = Json::array();
  std::size_t count = 0;
  for (int turn = 0; turn < turns; ++turn) {
    const Scratch scratch;
    std::vector<Round> rounds{{0, 0, bundle.head()}};
    const double began = seconds_now();
    task.listener = [&](int number, const Head& head) { rounds.push_back({number, seconds_now() - began, head}); };
    const FitResult result = personalize(bundle, train, scratch / "profile", task, silent);
    count = 0;
    for (const auto& [name, pictures] : result.pictures) count += pictures;
    stages.push_back(result.seconds);
    all.push_back(std::move(rounds));
  }
  const auto batch = sgd ? static_cast<std::size_t>(task.recipe.schedule->batch_size) : count;
  const std::size_t steps = (count + batch - 1) / batch;
  Json points = Json::array();
  for (std::size_t place = 0; place < all[0].size(); ++place) {
    const Round& round = all[0][place];
    std::vector<double> seconds;
    for (const auto& rounds : all) seconds.push_back(rounds[place].seconds);
    points.push_back({{"round", round.number},
                      {"steps", static_cast<std::size_t>(round.number) * steps},
                      {"seconds", median(seconds)},
                      {"accuracy", round.head.accuracy(features, labels)},
                      {"loss", round.head.loss(features, labels)}});
  }
  return {{"solver", sgd ? "sgd" : "exact"}, {"turns", stages}, {"points", points}};
}

// Of a process of its own: the peak of this one's memory has nothing to do with it.
Json start_of(const std::string& program, const Path& bundle, const Path& pictures) {
  int ends[2];
  if (::pipe(ends)) fail(program, "cannot be started");
  const pid_t child = ::fork();
  if (child < 0) fail(program, "cannot be started");
  if (child == 0) {
    ::dup2(ends[1], STDOUT_FILENO);
    ::close(ends[0]);
    const std::string now = std::to_string(seconds_now());
    ::execl(program.c_str(), "fbkit-device", "bench-start", bundle.c_str(), pictures.c_str(), now.c_str(), nullptr);
    ::_exit(127);
  }
  ::close(ends[1]);
  std::string said;
  char buffer[4096];
  for (ssize_t count; (count = ::read(ends[0], buffer, sizeof buffer)) > 0;)
    said.append(buffer, static_cast<std::size_t>(count));
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  const Json found = Json::parse(said, nullptr, false);
  if (status != 0 || !found.is_object()) throw UserError(bundle.string() + ": the process to be measured failed");
  return found;
}

std::uintmax_t bytes_below(const Path& folder) {
  std::uintmax_t size = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
    if (entry.is_regular_file()) size += entry.file_size();
  return size;
}

}  // namespace

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Json bench_start(const Path& folder, const Path& pictures, double started) {
  const double began = seconds_now();
  const Bundle bundle = Bundle::open(folder, std::nullopt);
  const double opened = seconds_now();
  const auto found = read_class_folder(pictures, bundle.manifest().classes, false);
  bundle.head().probabilities(glance_at(bundle, {found.front().path}, silent));
  const double predicted = seconds_now();
  const Json steady = memory_of_process("VmRSS"), most = memory_of_process("VmHWM");
  const Scratch scratch;
  Task task;
  task.recipe = default_recipe(bundle.manifest().personalization, false);
  personalize(bundle, pictures, scratch / "profile", task, silent);
  return {
      {"start", began - started}, {"opening", opened - began}, {"first_prediction", predicted - opened},
      {"memory_steady", steady},  {"memory_predicting", most}, {"memory_personalizing", memory_of_process("VmHWM")}};
}

Json bench(const Path& folder, const std::optional<Path>& signed_by, const Path& pictures, int turns,
           const std::string& program, const Progress& progress) {
  const Json before = observe();
  const Bundle bundle = Bundle::open(folder, signed_by);
  const Manifest& manifest = bundle.manifest();
  const auto train = read_class_folder(pictures / "train", manifest.classes, false);
  const auto test = read_class_folder(pictures / "test", manifest.classes, false);
  const std::size_t all = static_cast<std::size_t>(turns) + std::size(kBatches) + 2;
  std::size_t done = 0;
  Json start = Json::array(), latency = Json::array(), learning = Json::array();
  for (int turn = 0; turn < turns; ++turn) {
    start.push_back(start_of(program, folder, pictures / "train"));
    progress(++done, all);
  }
  std::vector<Path> paths;
  Labels labels;
  for (const LabelledPicture& picture : test) {
    paths.push_back(picture.path);
    labels.push_back(std::find(manifest.classes.begin(), manifest.classes.end(), picture.label) -
                     manifest.classes.begin());
  }
  const Matrix features = glance_at(bundle, paths, silent);
  std::vector<Pixels> decoded;
  for (std::size_t place = 0; place < std::min<std::size_t>(paths.size(), 32); ++place)
    decoded.push_back(bundle.decode(read_plain(paths[place], UINT64_C(1) << 30), paths[place].string()));
  for (const int batch : kBatches) {
    latency.push_back(latency_of(bundle, decoded, batch));
    progress(++done, all);
  }
  for (const bool sgd : {false, true}) {
    learning.push_back(learning_of(bundle, pictures / "train", sgd, turns, features, labels));
    progress(++done, all);
  }
  const Json subject = {{"name", std::filesystem::canonical(folder).filename().string()},
                        {"digest", manifest.identity},
                        {"target", "executorch"},
                        {"precision", manifest.precision},
                        {"pixels", std::max(manifest.input.height, manifest.input.width)},
                        {"classes", manifest.classes.size()},
                        {"features", manifest.features},
                        {"runtime", std::string("fbkit-device, executorch ") + kExecuTorchVersion},
                        {"pictures", train.size()},
                        {"unseen", test.size()}};
  return {{"schema", "fbkit.bench-device"},
          {"version", 1},
          {"machine", describe_device()},
          {"before", before},
          {"after", observe()},
          {"subject", subject},
          {"disk", {{"bundle", bytes_below(folder)}, {"runtime", bytes_below(Path(program).parent_path())}}},
          {"start", start},
          {"latency", latency},
          {"learning", learning}};
}

}  // namespace fbkit
