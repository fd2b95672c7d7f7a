#include "state.h"

#include <algorithm>

#include "manifest.h"

namespace fbkit {
namespace {

constexpr int kVersion = 2;
constexpr std::int64_t kMost = INT64_C(1) << 53, kMostNumber = 999'999'999, kMostFileBytes = INT64_C(2) << 30;
constexpr std::size_t kMostFiles = 1000;

template <typename T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json();
}

// NNNN and the suffix: 4 to 9 digits.
std::string name_in(const Fields& fields, const std::string& key, const std::string& suffix) {
  const std::string name = fields.text(key);
  const std::size_t digits = std::min(name.find_first_not_of("0123456789"), name.size());
  if (digits < 4 || digits > 9 || name.substr(digits) != suffix)
    throw fields.error(key, "is no name that fbkit gives to a file");
  return name;
}

std::string digest_in(const Fields& fields) {
  const std::string digest = fields.text("sha256");
  if (!is_digest(digest)) throw fields.error("sha256", "must be 64 hexadecimal digits");
  return digest;
}

std::optional<std::int64_t> count_in(const Fields& fields, const std::string& key) {
  if (fields.value(key).is_null()) return std::nullopt;
  return fields.integer(key, 1, kMost);
}

std::optional<std::string> name_or_null(const Fields& fields, const std::string& key, const std::string& suffix) {
  if (fields.value(key).is_null()) return std::nullopt;
  return name_in(fields, key, suffix);
}

std::int64_t number_of(const std::string& file) { return std::stoll(file); }

// Each once, in the order of their numbers; returns the last.
template <typename Entries>
std::int64_t last_number(const Entries& entries, const Fields& top, const std::string& key) {
  std::int64_t last = -1;
  for (const auto& entry : entries) {
    if (number_of(entry.file) <= last) throw top.error(key, "must name each file once, in the order of their numbers");
    last = number_of(entry.file);
  }
  return last;
}

}  // namespace

const HeadEntry* State::head_in_use() const {
  const auto found = std::find_if(heads.begin(), heads.end(), [&](const auto& entry) { return entry.file == in_use; });
  return found == heads.end() ? nullptr : &*found;
}

Json State::to_json() const {
  Json head_list = Json::array(), memory_list = Json::array();
  for (const HeadEntry& entry : heads) {
    head_list.push_back({{"file", entry.file},
                         {"sha256", entry.sha256},
                         {"classes", entry.classes},
                         {"seen", entry.seen},
                         {"pictures", entry.pictures},
                         {"recipe", entry.recipe}});
  }
  for (const MemoryEntry& entry : memory) {
    memory_list.push_back({{"file", entry.file}, {"sha256", entry.sha256}, {"pictures", entry.pictures}});
  }
  return {{"schema", "fbkit.profile"},
          {"version", kVersion},
          {"bundle", bundle},
          {"classes", classes},
          {"heads", head_list},
          {"in_use", or_null(in_use)},
          {"memory", memory_list},
          {"last_picture", last_picture},
          {"last_file", last_file},
          {"journal", or_null(journal)},
          {"journal_bytes", journal_bytes},
          {"limits", {{"pictures", or_null(limits.pictures)}, {"bytes", or_null(limits.bytes)}}},
          {"keep_pictures", keep_pictures},
          {"refit", or_null(refit)}};
}

std::string State::next_file(const std::string& suffix) {
  const std::string number = std::to_string(++last_file);
  return std::string(number.size() < 4 ? 4 - number.size() : 0, '0') + number + suffix;
}

State read_state(const Path& folder) {
  const Path path = folder / "profile.json";
  const Json json = parse_json(read_plain(path, kMostJsonBytes), path);
  const Fields top(path, "", json);
  if (top.text("schema") != "fbkit.profile") throw top.error("schema", "must be 'fbkit.profile'");
  const auto version = top.integer("version", 1, 1'000'000);
  if (version != kVersion) {
    throw top.error("version", "is " + std::to_string(version) + ", this fbkit-device reads version " +
                                   std::to_string(kVersion) + "; " +
                                   (version > kVersion ? "upgrade it" : "personalize into a new folder"));
  }
  State state;
  state.bundle = top.text("bundle");
  state.classes = parse_classes(top);
  const auto classes = static_cast<std::int64_t>(state.classes.size());
  for (const Fields& entry : top.items("heads", kMostFiles)) {
    state.heads.push_back({name_in(entry, "file", ".safetensors"), digest_in(entry),
                           entry.integer("classes", 2, classes), entry.integer("seen", 1, kMost),
                           entry.integer("pictures", 1, kMost), entry.section("recipe").values()});
  }
  state.in_use = name_or_null(top, "in_use", ".safetensors");
  for (const Fields& entry : top.items("memory", kMostFiles)) {
    state.memory.push_back(
        {name_in(entry, "file", ".safetensors"), digest_in(entry), entry.integer("pictures", 1, kMost)});
  }
  state.last_picture = top.integer("last_picture", 0, kMost);
  state.last_file = top.integer("last_file", 0, kMostNumber);
  state.journal = name_or_null(top, "journal", ".jsonl");
  state.journal_bytes = top.integer("journal_bytes", 0, kMostFileBytes);
  const Fields limits = top.section("limits");
  state.limits = {count_in(limits, "pictures"), count_in(limits, "bytes")};
  state.keep_pictures = top.flag("keep_pictures");
  if (!top.value("refit").is_null()) state.refit = top.section("refit").values();

  if (state.in_use && !state.head_in_use()) throw top.error("in_use", "is none of its heads");
  const std::int64_t last = std::max({last_number(state.heads, top, "heads"), last_number(state.memory, top, "memory"),
                                      state.journal ? number_of(*state.journal) : 0});
  if (last > state.last_file) {
    throw top.error("last_file", "must be " + std::to_string(last) + " at least, a file has this number");
  }
  return state;
}

}  // namespace fbkit
