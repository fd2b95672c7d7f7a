// Files that are checked before they are believed, and appear whole or not at all.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace fbkit {

using Bytes = std::vector<std::uint8_t>;
using Path = std::filesystem::path;

// An open file or folder.
class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor();
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int number() const { return number_; }
  bool is_open() const { return number_ >= 0; }

 private:
  int number_;
};

// UserError with what the system says of the last call.
[[noreturn]] void fail(const Path& path, const char* what);

// A plain file's bytes, at most limit and one more, so that a longer file shows. Links are not followed.
// Throws UserError if it is something else or cannot be read.
Bytes read_plain(const Path& path, std::uint64_t limit);

// After a crash the file holds the old bytes or the new ones; its owner alone can read it. Throws UserError.
void write_atomic(const Path& path, const Bytes& data);

// Writes at a place of a file that is there, over what is behind it, and syncs. False if the file is shorter.
// Throws UserError if it cannot be written.
bool write_behind(const Path& path, std::uint64_t place, const Bytes& data);

// One that is not there is no error.
void remove_file(const Path& path);

// SHA-256: 64 lower-case hexadecimal digits.
std::string sha256(const Bytes& data);
bool is_digest(const std::string& text);

std::string to_hex(const Bytes& data);
// Of an even number of digits; empty if it holds anything else.
Bytes from_hex(const std::string& text);

}  // namespace fbkit
