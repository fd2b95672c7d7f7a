#include "trial.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <new>

#include "errors.h"
#include "self_test.h"

namespace fbkit {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::size_t kMostSaid = 1000, kMostHeld = 100'000;

#ifdef FBKIT_SANITIZED
constexpr bool kIsSanitized = true;  // sanitizers reserve terabytes of addresses
#else
constexpr bool kIsSanitized = false;
#endif

struct TrialLimits {
  double seconds;
  std::uint64_t memory;  // bytes of address space beyond what there is at the start
};

// Far above what an honest bundle of this size needs on a slow device, and seconds for a small one.
TrialLimits limits_of(const Manifest& manifest) {
  double size = 0, pictures = 8;  // the self-test looks at some 8 pictures alone, and again in every batch
  for (const auto& [name, entry] : manifest.files) size += static_cast<double>(entry.bytes);
  for (const int batch : manifest.body_batches) pictures += batch;
  const double pixels = static_cast<double>(manifest.input.height) * manifest.input.width;
  const double stacks = static_cast<double>(std::max(1L, ::sysconf(_SC_NPROCESSORS_ONLN))) * 16e6;
  const double activations = manifest.body_batches.back() * pixels * 512 * 4;  // some layers of 64 channels
  return {4.0 + size / 4e6 + 2 * pictures * pixels * 1e-5,
          static_cast<std::uint64_t>(512e6 + 8 * size + activations + stacks)};
}

void lower(decltype(RLIMIT_CORE) resource, std::uint64_t value) {
  rlimit limit{};
  ::getrlimit(resource, &limit);
  limit.rlim_cur = limit.rlim_max = std::min<rlim_t>(value, limit.rlim_max);
  ::setrlimit(resource, &limit);
}

std::uint64_t address_space() {
  unsigned long long pages = 0;
  if (std::FILE* file = std::fopen("/proc/self/statm", "r")) {
    if (std::fscanf(file, "%llu", &pages) != 1) pages = 0;
    std::fclose(file);
  }
  return pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

void limit_this_process(const TrialLimits& limits) {
  lower(RLIMIT_CORE, 0);
  lower(RLIMIT_FSIZE, 1 << 20);
  lower(RLIMIT_CPU, static_cast<std::uint64_t>(limits.seconds *
                                               static_cast<double>(std::max(1L, ::sysconf(_SC_NPROCESSORS_ONLN)))) +
                        1);
  const std::uint64_t now = address_space();
  if (now && !kIsSanitized) lower(RLIMIT_AS, now + limits.memory);
}

// The child answers, a line each: "at FILE" before a file is loaded and run, then "good", "refused WHY" or "starved".
[[noreturn]] void run_child(const Contents& contents, int answers) {
  const auto say = [&](std::string line) {
    std::replace(line.begin(), line.end(), '\n', ' ');
    line = line.substr(0, kMostSaid) + "\n";
    if (::write(answers, line.data(), line.size()) < 0) ::_exit(1);
  };
  const int nowhere = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  for (const int stream : {0, 1, 2}) ::dup2(nowhere, stream);
  try {
    limit_this_process(limits_of(contents.manifest));
    say("at " + contents.manifest.body);
    const Bundle bundle{Contents(contents)};
    run_self_test(bundle, [&](const std::string& file) { say("at " + file); });
    say("good");
  } catch (const UserError& error) {
    say(std::string("refused ") + error.what());
  } catch (const std::bad_alloc&) {
    say("starved");
  } catch (const std::exception& error) {
    say(std::string("refused ") + contents.folder.string() + ": " + error.what());
  }
  ::_exit(0);  // runtimes take their time to leave
}

class Child {
 public:
  explicit Child(pid_t process) : process_(process) {}
  ~Child() {
    ::kill(process_, SIGKILL);
    ending();
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  int ending() {
    if (!ended_) {
      while (::waitpid(process_, &status_, 0) < 0 && errno == EINTR) {
      }
      ended_ = true;
    }
    return status_;
  }

 private:
  pid_t process_;
  int status_ = 0;
  bool ended_ = false;
};

// A line, without its end; empty where the child has ended, or the time is up.
std::string read_line(int answers, std::string& held, Clock::time_point deadline) {
  while (held.find('\n') == std::string::npos) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    pollfd ready{answers, POLLIN, 0};
    const int found = left > 0 ? ::poll(&ready, 1, static_cast<int>(left)) : 0;
    if (found < 0 && errno == EINTR) continue;
    char buffer[512];
    const ssize_t count = found > 0 ? ::read(answers, buffer, sizeof buffer) : 0;
    if (count <= 0 || held.size() > kMostHeld) return "";
    held.append(buffer, static_cast<std::size_t>(count));
  }
  const auto end = held.find('\n');
  const std::string line = held.substr(0, end);
  held.erase(0, end + 1);
  return line;
}

}  // namespace

void run_trial(const Contents& contents) {
  int ends[2];
  const std::string at = contents.folder.string() + ": ";
  if (::pipe2(ends, O_CLOEXEC)) throw UserError(at + "cannot be tried out (" + std::strerror(errno) + ")");
  const Descriptor reading(ends[0]);
  auto writing = std::make_unique<Descriptor>(ends[1]);
  const pid_t process = ::fork();
  if (process < 0) throw UserError(at + "cannot be tried out (" + std::strerror(errno) + ")");
  if (process == 0) run_child(contents, writing->number());
  writing.reset();
  Child child(process);
  const double seconds = limits_of(contents.manifest).seconds;
  const auto deadline =
      Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  std::string held, file;
  while (true) {
    const std::string line = read_line(reading.number(), held, deadline);
    const std::string kind = line.substr(0, line.find(' '));
    const std::string text = line.size() > kind.size() ? line.substr(kind.size() + 1) : "";
    if (kind == "good") return;
    if (kind == "refused") throw UserError(text);
    if (kind == "starved") throw UserError(at + file + ": needs more memory than it should; do not use this bundle");
    if (kind != "at") break;
    file = text;
  }
  std::string how = "is not done after " + std::to_string(static_cast<int>(seconds)) + " seconds";
  if (Clock::now() < deadline) {
    const int status = child.ending();
    if (!(WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU)) {
      how = "crashes its runtime (" +
            (WIFSIGNALED(status) ? "signal " + std::to_string(WTERMSIG(status))
                                 : "exit code " + std::to_string(WEXITSTATUS(status))) +
            ")";
    }
  }
  throw UserError(at + file + ": " + how + "; do not use this bundle");
}

}  // namespace fbkit
