#include "verdicts.h"

#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <set>

#include "errors.h"
#include "fields.h"
#include "version.h"

namespace fbkit {
namespace {

// $XDG_CACHE_HOME, if absolute as its specification asks, or ~/.cache.
std::optional<Path> verdicts_folder() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  if (cache && cache[0] == '/') return Path(cache) / "fbkit" / "verdicts";
  if (home && home[0] == '/') return Path(home) / ".cache" / "fbkit" / "verdicts";
  return std::nullopt;
}

// Whether only this user can have written into it.
bool is_private(const Path& folder) {
  struct stat status{};
  return !::lstat(folder.c_str(), &status) && S_ISDIR(status.st_mode) && status.st_uid == ::geteuid() &&
         !(status.st_mode & 077);
}

// The processor's model and features: runtimes choose their kernels by them.
std::string processor() {
  std::ifstream file("/proc/cpuinfo");
  std::set<std::string> told;
  for (std::string line; std::getline(file, line);) {
    for (const char* start : {"model name", "flags", "Features", "CPU part"}) {
      if (line.rfind(start, 0) == 0) told.insert(line);
    }
  }
  Bytes text;
  for (const std::string& line : told) text.insert(text.end(), line.begin(), line.end());
  return sha256(text);
}

Bytes verdict(const std::string& digest) {
  utsname system{};
  ::uname(&system);
  const Json json = {{"manifest_sha256", digest},
                     {"fbkit-device", kVersion},
                     {"executorch", kExecuTorchVersion},
                     {"machine", {{"system", system.sysname}, {"processor", system.machine}, {"cpu", processor()}}}};
  const std::string text = json.dump(2) + "\n";
  return Bytes(text.begin(), text.end());
}

}  // namespace

bool is_known_good(const std::string& digest) {
  const auto folder = verdicts_folder();
  if (!folder || !is_private(*folder)) return false;
  const Bytes expected = verdict(digest);
  try {
    return read_plain(*folder / (sha256(expected) + ".json"), expected.size()) == expected;
  } catch (const UserError&) {
    return false;
  }
}

void remember_good(const std::string& digest) {
  const auto folder = verdicts_folder();
  if (!folder) return;
  std::error_code error;
  std::filesystem::create_directories(folder->parent_path(), error);
  if ((::mkdir(folder->c_str(), 0700) && errno != EEXIST) || !is_private(*folder)) return;
  const Bytes data = verdict(digest);
  try {
    write_atomic(*folder / (sha256(data) + ".json"), data);
  } catch (const UserError&) {  // it is tried again, then
  }
}

}  // namespace fbkit
