// Files that are checked before they are believed, and appear whole or not at all.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace fbkit {

using Bytes = std::vector<std::uint8_t>;
using Path = std::filesystem::path;

// A plain file's bytes, at most limit and one more, so that a longer file shows. Links are not followed.
// Throws UserError if it is something else or cannot be read.
Bytes read_plain(const Path& path, std::uint64_t limit);

// After a crash the file holds the old bytes or the new ones; its owner alone can read it. Throws UserError.
void write_atomic(const Path& path, const Bytes& data);

// 64 lower-case hexadecimal digits.
std::string sha256(const Bytes& data);

}  // namespace fbkit
