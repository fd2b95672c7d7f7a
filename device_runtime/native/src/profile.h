// The profile folder, opened and changed; docs/profile-format.md describes it.
//
// A change writes its new files first and profile.json last: after a crash the profile is the old one or the new one.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "head.h"
#include "manifest.h"
#include "memory.h"
#include "state.h"

namespace fbkit {

// Pictures that come to be remembered, each once.
struct Arrived {
  std::vector<std::string> names, digests, labels;  // labels: names of classes
  Matrix features;                                  // as_stored
  std::map<std::string, Bytes> contents;            // files by digest, where the profile keeps them
  std::size_t computed = 0;                         // for how many the body had to run
};

class Profile {
 public:
  Profile(Path folder, const Manifest& manifest, State state);

  const Path& folder() const { return folder_; }
  const State& state() const { return state_; }
  const std::vector<std::string>& classes() const { return state_.classes; }

  // What is read may throw UserError: a file is missing or altered.
  std::optional<Head> head();
  Memory memory();
  bool keeps(const std::string& digest) const;

  // Changes, each of which happens as a whole or not at all. They throw UserError.
  void remember(const Arrived& given);
  // A head that was fitted to all that is remembered; none: the shipped one. recipe and note go into the journal.
  void take_into_use(const std::optional<Head>& head, const Json& recipe, const Json& note);
  void keep_in_use(const Json& recipe, const Json& note);

  // Whether a crash left something to do or to remove.
  bool is_unfinished();
  // Remove what does not count.
  void sweep();

 private:
  template <typename Read>
  auto now(Read read) -> decltype(read());
  Memory read_memory(const std::vector<MemoryEntry>& entries) const;
  void append_memory(State& state, const Memory& added) const;
  void write_memory(State& state, const Memory& memory) const;
  void commit(State state, const Json& event);
  std::vector<Path> past();

  Path folder_;
  const Manifest& manifest_;
  State state_;
};

// The profile in a folder; none where one can be made. Throws UserError if something else is there, or a profile of
// another bundle.
std::optional<Profile> find_profile(const Path& folder, const Manifest& manifest);

// Holds a profile against other processes while it is changed, and makes it where there is none.
class ChangingProfile {
 public:
  // Throws UserError if another process holds it, it cannot be made, or as find_profile.
  ChangingProfile(const Path& folder, const Manifest& manifest);
  ~ChangingProfile();
  Profile& operator*() { return *profile_; }
  Profile* operator->() { return &*profile_; }

 private:
  std::unique_ptr<Descriptor> lock_;
  std::optional<Profile> profile_;
};

}  // namespace fbkit
