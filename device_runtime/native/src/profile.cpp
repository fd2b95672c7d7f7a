#include "profile.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>
#include <system_error>

#include "errors.h"
#include "journal.h"

namespace fbkit {
namespace {

constexpr std::size_t kMostHeads = 10;  // that one can go back to
constexpr std::int64_t kMostJournalBytes = 1024 * 1024;
constexpr std::size_t kKeptLines = 1000;
constexpr std::uint64_t kMostFileBytes = UINT64_C(2) << 30;
constexpr const char* kPointer = "profile.json";
constexpr const char* kFolders[] = {"heads", "memory", "kept"};

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

bool is_remains(const std::string& name) { return name[0] == '.' && ends_with(name, ".partial"); }

// Whether fbkit gives such names to a profile's files.
bool is_ours(const std::string& name) {
  const std::size_t digits = std::min(name.find_first_not_of("0123456789"), name.size());
  const std::string rest = name.substr(digits);
  const bool is_numbered = digits >= 4 && digits <= 9 && (rest == ".safetensors" || rest == ".jsonl");
  return is_numbered || is_digest(name) || is_remains(name);
}

std::vector<Path> files_of_ours(const Path& folder) {
  std::vector<Path> files;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (is_ours(entry.path().filename().string())) files.push_back(entry.path());
  }
  return files;
}

Bytes read_checked(const Path& path, const std::string& digest) {
  const std::string advice = "restore the profile from a copy, or personalize into a new folder";
  Bytes data;
  try {
    data = read_plain(path, kMostFileBytes);
  } catch (const UserError& error) {
    throw UserError(std::string(error.what()) + "; " + advice);
  }
  if (sha256(data) != digest) throw UserError(path.string() + ": was altered, its SHA-256 is another; " + advice);
  return data;
}

std::map<std::string, std::size_t> places_of(const std::vector<std::string>& classes) {
  std::map<std::string, std::size_t> places;
  for (std::size_t place = 0; place < classes.size(); ++place) places[classes[place]] = place;
  return places;
}

void make_folder(const Path& folder) {
  if (::mkdir(folder.c_str(), 0700) && errno != EEXIST) fail(folder, "cannot be made");
}

// Whether a profile that was never finished can hold this.
bool may_be_ours(const std::string& name) {
  return std::find(std::begin(kFolders), std::end(kFolders), name) != std::end(kFolders) || name == "lock" ||
         is_remains(name);
}

}  // namespace

Profile::Profile(Path folder, const Manifest& manifest, State state)
    : folder_(std::move(folder)), manifest_(manifest), state_(std::move(state)) {}

// What read finds; if that fails because another process has just changed the profile, once more.
template <typename Read>
auto Profile::now(Read read) -> decltype(read()) {
  while (true) {
    try {
      return read();
    } catch (const UserError&) {
      State state = read_state(folder_);
      if (state.to_json() == state_.to_json()) throw;
      state_ = std::move(state);
    }
  }
}

std::optional<Head> Profile::head() {
  return now([&]() -> std::optional<Head> {
    const HeadEntry* entry = state_.head_in_use();
    if (!entry) return std::nullopt;
    const Path path = folder_ / "heads" / entry->file;
    return head_from_bytes(read_checked(path, entry->sha256), entry->classes, manifest_.features, path.string());
  });
}

Memory Profile::memory() {
  return now([&] { return read_memory(state_.memory); });
}

bool Profile::keeps(const std::string& digest) const { return std::filesystem::exists(folder_ / "kept" / digest); }

Memory Profile::read_memory(const std::vector<MemoryEntry>& entries) const {
  Memory memory = no_memory(manifest_.features);
  for (const MemoryEntry& entry : entries) {
    const Path path = folder_ / "memory" / entry.file;
    const Memory part =
        memory_from_bytes(read_checked(path, entry.sha256), manifest_.features, classes().size(), path.string());
    if (static_cast<std::int64_t>(part.size()) != entry.pictures) {
      throw UserError(path.string() + ": holds another number of pictures than " + kPointer + " says");
    }
    if (memory.size() && part.numbers[0] <= memory.numbers.back()) {
      throw UserError(path.string() + ": numbers must rise from file to file");
    }
    memory = memory.with(part);
  }
  if (memory.rows_by_digest().size() < memory.size()) {
    throw UserError((folder_ / "memory").string() + ": two files hold the same picture");
  }
  return memory;
}

void Profile::remember(const Arrived& given) {
  State state = state_;
  for (const std::string& name : given.labels) {
    if (places_of(state.classes).count(name)) continue;
    if (!is_class_name(name)) throw UserError("class '" + name + "': cannot name a class; choose another name");
    state.classes.push_back(name);
  }
  const auto places = places_of(state.classes);
  Labels labels;
  for (const std::string& name : given.labels) labels.push_back(static_cast<std::int64_t>(places.at(name)));
  const Memory known = memory();
  const Memory added = known.new_among(given.digests, labels, given.features, state.last_picture);
  if (state.keep_pictures) {
    for (const auto& [digest, content] : given.contents) write_atomic(folder_ / "kept" / digest, content);
  }
  if (!added.size()) return;
  const Memory within = known.without(added).with(added).within(state.limits);
  state.last_picture = added.numbers.back();
  if (within.size() == known.size() + added.size()) {
    append_memory(state, added);
  } else {
    state.memory.clear();
    write_memory(state, within);
  }
  Json counts = Json::object();
  for (const std::int64_t label : added.labels) {
    const std::string& name = state.classes[static_cast<std::size_t>(label)];
    counts[name] = counts.value(name, 0) + 1;
  }
  commit(std::move(state),
         {{"event", "add"}, {"first", added.numbers.front()}, {"last", added.numbers.back()}, {"pictures", counts}});
}

// In one file with those before it that are not larger: so they are few, and each picture is written seldom.
void Profile::append_memory(State& state, const Memory& added) const {
  std::vector<MemoryEntry> taken;
  auto pictures = static_cast<std::int64_t>(added.size());
  while (!state.memory.empty() && state.memory.back().pictures <= pictures) {
    pictures += state.memory.back().pictures;
    taken.insert(taken.begin(), state.memory.back());
    state.memory.pop_back();
  }
  write_memory(state, read_memory(taken).with(added));
}

void Profile::write_memory(State& state, const Memory& memory) const {
  if (!memory.size()) return;
  const std::string name = state.next_file(".safetensors");
  const Bytes data = memory.to_bytes();
  write_atomic(folder_ / "memory" / name, data);
  state.memory.push_back({name, sha256(data), static_cast<std::int64_t>(memory.size())});
}

void Profile::take_into_use(const std::optional<Head>& head, const Json& recipe, const Json& note) {
  State state = state_;
  state.refit.reset();
  state.in_use.reset();
  if (head) {
    if (!state_
             .refit) {  // rolling back leads to what was in use before; a refit stands for the last one, that had to go
      const HeadEntry* present = state_.head_in_use();
      state.heads.resize(present ? static_cast<std::size_t>(present - state_.heads.data()) + 1 : 0);
    }
    const Bytes data = head->to_bytes();
    const std::string name = state.next_file(".safetensors");
    write_atomic(folder_ / "heads" / name, data);
    std::int64_t pictures = 0;
    for (const MemoryEntry& entry : state.memory) pictures += entry.pictures;
    state.heads.push_back({name, sha256(data), head->classes(), state.last_picture, pictures, recipe});
    if (state.heads.size() > kMostHeads) state.heads.erase(state.heads.begin(), state.heads.end() - kMostHeads);
    state.in_use = name;
  }
  Json event = {{"event", "fit"}, {"head", state.in_use ? Json(*state.in_use) : Json()}};
  event.update(recipe);
  event.update(note);
  commit(std::move(state), event);
}

void Profile::keep_in_use(const Json& recipe, const Json& note) {
  State state = state_;
  state.refit.reset();
  Json event = {{"event", "fit"}, {"head", state.in_use ? Json(*state.in_use) : Json()}};
  event.update(recipe);
  event.update(note);
  commit(std::move(state), event);
}

void Profile::commit(State state, const Json& event) {
  const Bytes line = to_line(event);
  const auto counted = static_cast<std::uint64_t>(state.journal_bytes);
  if (state.journal && state.journal_bytes < kMostJournalBytes) {
    append_journal(folder_ / *state.journal, counted, line);
    state.journal_bytes += static_cast<std::int64_t>(line.size());
  } else {
    Bytes data;
    if (state.journal) data = last_lines(read_journal(folder_ / *state.journal, counted), kKeptLines);
    data.insert(data.end(), line.begin(), line.end());
    state.journal = state.next_file(".jsonl");
    write_atomic(folder_ / *state.journal, data);
    state.journal_bytes = static_cast<std::int64_t>(data.size());
  }
  const std::string text = state.to_json().dump(-1, ' ', true) + "\n";
  write_atomic(folder_ / kPointer, Bytes(text.begin(), text.end()));
  state_ = std::move(state);
  sweep();
}

bool Profile::is_unfinished() { return state_.refit || !past().empty(); }

void Profile::sweep() {
  for (const Path& path : past()) remove_file(path);
}

// Files of the past, and what a crash left.
std::vector<Path> Profile::past() {
  std::set<Path> count;
  for (const HeadEntry& entry : state_.heads) count.insert(folder_ / "heads" / entry.file);
  for (const MemoryEntry& entry : state_.memory) count.insert(folder_ / "memory" / entry.file);
  if (state_.journal) count.insert(folder_ / *state_.journal);
  const auto kept = files_of_ours(folder_ / "kept");
  if (!kept.empty() && state_.keep_pictures) {
    for (const std::string& digest : memory().digests) count.insert(folder_ / "kept" / digest);
  }
  std::vector<Path> past;
  for (const Path& folder : {folder_ / "heads", folder_ / "memory", folder_, folder_ / "kept"}) {
    for (const Path& path : files_of_ours(folder)) {
      if (!count.count(path)) past.push_back(path);
    }
  }
  return past;
}

std::optional<Profile> find_profile(const Path& folder, const Manifest& manifest) {
  std::error_code error;
  if (std::filesystem::exists(folder / kPointer, error)) {
    State state = read_state(folder);
    if (state.bundle != manifest.identity) {
      throw UserError(folder.string() +
                      ": this profile was made with another bundle; give the bundle it was made with, "
                      "or personalize into a new folder");
    }
    const auto& ours = manifest.classes;
    if (state.classes.size() < ours.size() || !std::equal(ours.begin(), ours.end(), state.classes.begin())) {
      throw UserError((folder / kPointer).string() + ": its first classes are not the bundle's");
    }
    return Profile(folder, manifest, std::move(state));
  }
  if (!std::filesystem::exists(std::filesystem::symlink_status(folder, error))) return std::nullopt;
  bool can_be_made = std::filesystem::is_directory(folder, error);
  if (can_be_made) {
    for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
      can_be_made = can_be_made && may_be_ours(entry.path().filename().string());
    }
  }
  if (error || !can_be_made) throw UserError(folder.string() + ": exists and is not a profile; choose another folder");
  return std::nullopt;
}

ChangingProfile::ChangingProfile(const Path& folder, const Manifest& manifest) {
  find_profile(folder, manifest);  // before anything is made in a folder that is somebody else's
  std::error_code error;
  if (const Path parent = folder.parent_path(); !parent.empty()) std::filesystem::create_directories(parent, error);
  make_folder(folder);
  for (const char* name : kFolders) make_folder(folder / name);
  if (::chmod(folder.c_str(), 0700)) fail(folder, "cannot be made");
  lock_ =
      std::make_unique<Descriptor>(::open((folder / "lock").c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!lock_->is_open()) fail(folder, "cannot be made");
  if (::flock(lock_->number(), LOCK_EX | LOCK_NB)) {
    if (errno == EWOULDBLOCK)
      throw UserError(folder.string() + ": another process is changing this profile; try again");
    fail(folder, "cannot be locked");
  }
  if (auto found = find_profile(folder, manifest)) {
    profile_.emplace(std::move(*found));
  } else {
    State state;
    state.bundle = manifest.identity;
    state.classes = manifest.classes;
    const std::string text = state.to_json().dump(-1, ' ', true) + "\n";
    write_atomic(folder / kPointer, Bytes(text.begin(), text.end()));
    profile_.emplace(folder, manifest, std::move(state));
  }
  profile_->sweep();
}

ChangingProfile::~ChangingProfile() {
  try {
    if (profile_) profile_->sweep();  // of a change that failed: a full disk has room again
  } catch (const std::exception&) {   // whoever opens it next does it
  }
}

}  // namespace fbkit
