#include "facts.h"

#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>
#ifdef __ANDROID__
#include <android/api-level.h>
#endif

#include <algorithm>
#include <fstream>
#include <optional>
#include <set>
#include <sstream>
#include <thread>

#include "files.h"
#include "version.h"

namespace fbkit {
namespace {

namespace fs = std::filesystem;

constexpr int kThrottledNow = 0xF;  // of a Raspberry Pi's firmware: too little voltage, too hot, slowed down
constexpr std::size_t kElfMachine = 18;
const Path kProcessor = "/sys/devices/system/cpu/cpu0";

std::optional<std::string> text_of(const Path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return std::nullopt;
  std::ostringstream content;
  content << file.rdbuf();
  std::string text = content.str();
  while (!text.empty() && (text.back() == '\0' || text.back() == '\n' || text.back() == ' ')) text.pop_back();
  return text;
}

// "key: value" or "KEY=value", the first of each key.
std::map<std::string, std::string> pairs_of(const Path& path, char between) {
  std::map<std::string, std::string> found;
  std::istringstream lines(text_of(path).value_or(""));
  const auto stripped = [](const std::string& text) {
    const auto first = text.find_first_not_of(" \t\"'"), last = text.find_last_not_of(" \t\"'");
    return first == std::string::npos ? std::string() : text.substr(first, last - first + 1);
  };
  for (std::string line; std::getline(lines, line);) {
    const auto at = line.find(between);
    if (at != std::string::npos) found.emplace(stripped(line.substr(0, at)), stripped(line.substr(at + 1)));
  }
  return found;
}

Json number_of(const Path& path, double unit) {
  const auto text = text_of(path);
  char* end = nullptr;
  const double value = text ? std::strtod(text->c_str(), &end) : 0;
  return text && end != text->c_str() ? Json(value * unit) : Json();
}

Json first_text(std::initializer_list<Path> paths) {
  for (const Path& path : paths) {
    const auto text = text_of(path);
    if (text && !text->empty()) return *text;
  }
  return nullptr;
}

std::string processor_of(const std::map<std::string, std::string>& cpuinfo, const std::string& otherwise) {
  const auto of = [&](const char* key) {
    const auto found = cpuinfo.find(key);
    return found == cpuinfo.end() ? std::string() : found->second;
  };
  if (!of("model name").empty()) return of("model name");
  if (!of("CPU implementer").empty()) return "Arm " + of("CPU implementer") + "/" + of("CPU part");
  return otherwise;
}

std::string elf_machine(const Path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string header(20, '\0');
  file.read(header.data(), static_cast<std::streamsize>(header.size()));
  return file && header.substr(0, 4) ==
                     "\x7f"
                     "ELF"
             ? header.substr(kElfMachine)
             : "";
}

// qemu shows a process the program that it emulates as its own, but a thread the program that runs: qemu.
bool is_emulated() {
  std::error_code error;
  for (const char* path : {"/dev/goldfish_pipe", "/dev/qemu_pipe"}) {
    if (fs::exists(path, error)) return true;
  }
  const std::string own = elf_machine("/proc/self/exe"), that_runs = elf_machine("/proc/thread-self/exe");
  return !own.empty() && !that_runs.empty() && own != that_runs;
}

}  // namespace

Json describe_device() {
  utsname names{};
  ::uname(&names);
  const auto cpuinfo = pairs_of("/proc/cpuinfo", ':'), release = pairs_of("/etc/os-release", '=');
  std::set<std::string> features;
  for (const char* key : {"Features", "flags"}) {
    const auto found = cpuinfo.find(key);
    if (found == cpuinfo.end()) continue;
    std::istringstream words(found->second);
    for (std::string word; words >> word;) features.insert(word);
  }
#ifdef __ANDROID__
  const std::string system = "Android, API " + std::to_string(::android_get_device_api_level());
#else
  const auto pretty = release.find("PRETTY_NAME");
  const std::string system = pretty == release.end() ? names.sysname : pretty->second;
#endif
  return {{"model", first_text({"/proc/device-tree/model", "/sys/class/dmi/id/product_name"})},
          {"processor", processor_of(cpuinfo, names.machine)},
          {"architecture", names.machine},
          {"cores", std::max(1u, std::thread::hardware_concurrency())},
          {"features", features},
          {"memory", static_cast<std::int64_t>(::sysconf(_SC_PAGESIZE)) * ::sysconf(_SC_PHYS_PAGES)},
          {"system", system},
          {"kernel", names.release},
          {"emulated", is_emulated()},
          {"versions", {{"fbkit", kVersion}, {"executorch", kExecuTorchVersion}}}};
}

Json observe() {
  Json celsius;
  std::error_code error;
  for (const auto& zone : fs::directory_iterator("/sys/class/thermal", error)) {
    const Json value = number_of(zone.path() / "temp", 1e-3);
    if (!value.is_null() && (celsius.is_null() || value > celsius)) celsius = value;
  }
  const auto flags = text_of("/sys/devices/platform/soc/soc:firmware/get_throttled");
  struct sysinfo info{};
  ::sysinfo(&info);
  return {{"celsius", celsius},
          {"megahertz", number_of(kProcessor / "cpufreq/scaling_cur_freq", 1e-3)},
          {"governor", first_text({kProcessor / "cpufreq/scaling_governor"})},
          {"throttled", flags ? Json((std::strtol(flags->c_str(), nullptr, 16) & kThrottledNow) != 0) : Json()},
          {"load", static_cast<double>(info.loads[0]) / (1 << SI_LOAD_SHIFT)}};
}

Json memory_of_process(const std::string& name) {
  const auto status = pairs_of("/proc/self/status", ':');
  const auto found = status.find(name);
  return found == status.end() ? Json() : Json(1024 * std::strtoll(found->second.c_str(), nullptr, 10));
}

}  // namespace fbkit
