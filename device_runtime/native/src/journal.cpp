#include "journal.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "errors.h"

namespace fbkit {
namespace {

UserError too_short(const Path& path) { return UserError(path.string() + ": is shorter than profile.json says"); }

}  // namespace

Bytes read_journal(const Path& path, std::uint64_t counted) {
  Bytes data = read_plain(path, counted);
  if (data.size() < counted) throw too_short(path);
  data.resize(counted);
  for (auto start = data.begin(); start != data.end();) {
    const auto end = std::find(start, data.end(), '\n');
    parse_json(Bytes(start, end), path);
    start = end == data.end() ? end : end + 1;
  }
  return data;
}

void append_journal(const Path& path, std::uint64_t counted, const Bytes& line) {
  if (!write_behind(path, counted, line)) throw too_short(path);
}

Bytes last_lines(const Bytes& journal, std::size_t most) {
  auto start = journal.end();
  for (std::size_t lines = 0; start != journal.begin(); --start) {
    if (*(start - 1) == '\n' && lines++ == most) break;
  }
  return Bytes(start, journal.end());
}

Bytes to_line(Json entry) {
  const double seconds = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  entry["time"] = std::round(seconds * 1000) / 1000;
  const std::string text = entry.dump(-1, ' ', true) + "\n";
  return Bytes(text.begin(), text.end());
}

}  // namespace fbkit
