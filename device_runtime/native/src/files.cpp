#include "files.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

#include "errors.h"

namespace fbkit {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int number() const { return number_; }
  bool is_open() const { return number_ >= 0; }

 private:
  int number_;
};

[[noreturn]] void fail(const Path& path, const char* what) {
  throw UserError(path.string() + ": " + what + " (" + std::strerror(errno) + ")");
}

void sync_folder(const Path& folder) {
  const Descriptor opened(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!opened.is_open() || ::fsync(opened.number())) fail(folder, "cannot be written");
}

void write_all(int descriptor, const Bytes& data, const Path& path) {
  for (std::size_t at = 0; at < data.size();) {
    const ssize_t written = ::write(descriptor, data.data() + at, data.size() - at);
    if (written < 0 && errno != EINTR) fail(path, "cannot be written");
    if (written > 0) at += static_cast<std::size_t>(written);
  }
}

}  // namespace

Bytes read_plain(const Path& path, std::uint64_t limit) {
  // Of a pipe, do not wait for a writer.
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!file.is_open()) {
    if (errno == ELOOP) throw UserError(path.string() + ": not a plain file");
    fail(path, "cannot be read");
  }
  struct stat status {};
  if (::fstat(file.number(), &status)) fail(path, "cannot be read");
  if (!S_ISREG(status.st_mode)) throw UserError(path.string() + ": not a plain file");
  const auto size = static_cast<std::uint64_t>(status.st_size);
  Bytes data((size < limit ? size : limit) + 1);
  std::size_t at = 0;
  while (at < data.size()) {
    const ssize_t count = ::read(file.number(), data.data() + at, data.size() - at);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail(path, "cannot be read");
    if (count == 0) break;
    at += static_cast<std::size_t>(count);
  }
  data.resize(at);
  return data;
}

void write_atomic(const Path& path, const Bytes& data) {
  std::string temporary = (path.parent_path() / ("." + path.filename().string() + ".XXXXXX.partial")).string();
  const Descriptor file(::mkstemps(temporary.data(), static_cast<int>(std::strlen(".partial"))));
  if (!file.is_open()) fail(path, "cannot be written");
  try {
    write_all(file.number(), data, path);
    if (::fsync(file.number())) fail(path, "cannot be written");
    if (::rename(temporary.c_str(), path.c_str())) fail(path, "cannot be written");
  } catch (const UserError&) {
    ::unlink(temporary.c_str());
    throw;
  }
  sync_folder(path.parent_path());
}

std::string sha256(const Bytes& data) {
  std::uint8_t digest[crypto_hash_sha256_BYTES];
  crypto_hash_sha256(digest, data.data(), data.size());
  std::string text(2 * sizeof digest + 1, '\0');
  sodium_bin2hex(text.data(), text.size(), digest, sizeof digest);
  text.pop_back();
  return text;
}

}  // namespace fbkit
