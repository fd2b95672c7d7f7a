// profile.json: which files a profile consists of, and the rest of its state; docs/profile-format.md#profilejson.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "fields.h"
#include "memory.h"
#include "recipe.h"

namespace fbkit {

struct HeadEntry {
  std::string file, sha256;
  std::int64_t classes = 0, seen = 0, pictures = 0;
  Json recipe;
};

struct MemoryEntry {
  std::string file, sha256;
  std::int64_t pictures = 0;
};

struct State {
  std::string bundle;
  std::vector<std::string> classes;
  std::vector<HeadEntry> heads;
  std::optional<std::string> in_use;
  std::vector<MemoryEntry> memory;
  std::int64_t last_picture = 0, last_file = 0;
  std::optional<std::string> journal;
  std::int64_t journal_bytes = 0;
  Limits limits;
  bool keep_pictures = false;
  std::optional<Json> refit;

  const HeadEntry* head_in_use() const;
  Json to_json() const;
  // The name of the next file.
  std::string next_file(const std::string& suffix);
};

// Throws UserError if it is missing, of another version, or holds what no fbkit writes.
State read_state(const Path& folder);

}  // namespace fbkit
