#include "files.h"

#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "errors.h"

namespace fbkit {
namespace {

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

Descriptor::~Descriptor() {
  if (is_open()) ::close(number_);
}

void fail(const Path& path, const char* what) {
  throw UserError(path.string() + ": " + what + " (" + std::strerror(errno) + ")");
}

Bytes read_plain(const Path& path, std::uint64_t limit) {
  // Of a pipe, do not wait for a writer.
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!file.is_open()) {
    if (errno == ELOOP) throw UserError(path.string() + ": not a plain file");
    fail(path, "cannot be read");
  }
  struct stat status{};
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

bool write_behind(const Path& path, std::uint64_t place, const Bytes& data) {
  const Descriptor file(::open(path.c_str(), O_RDWR | O_NOFOLLOW | O_CLOEXEC));
  struct stat status{};
  if (!file.is_open() || ::fstat(file.number(), &status)) fail(path, "cannot be written");
  if (static_cast<std::uint64_t>(status.st_size) < place) return false;
  const auto offset = static_cast<off_t>(place);
  if (::ftruncate(file.number(), offset) || ::lseek(file.number(), offset, SEEK_SET) < 0)
    fail(path, "cannot be written");
  write_all(file.number(), data, path);
  if (::fsync(file.number())) fail(path, "cannot be written");
  return true;
}

void remove_file(const Path& path) {
  if (::unlink(path.c_str()) && errno != ENOENT) fail(path, "cannot be removed");
}

std::string sha256(const Bytes& data) {
  Bytes digest(crypto_hash_sha256_BYTES);
  crypto_hash_sha256(digest.data(), data.data(), data.size());
  return to_hex(digest);
}

bool is_digest(const std::string& text) {
  return text.size() == 2 * crypto_hash_sha256_BYTES && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

std::string to_hex(const Bytes& data) {
  std::string text(2 * data.size() + 1, '\0');
  sodium_bin2hex(text.data(), text.size(), data.data(), data.size());
  text.pop_back();
  return text;
}

Bytes from_hex(const std::string& text) {
  Bytes data(text.size() / 2);
  std::size_t length = 0;
  if (sodium_hex2bin(data.data(), data.size(), text.data(), text.size(), nullptr, &length, nullptr)) return {};
  return length == data.size() ? data : Bytes();
}

}  // namespace fbkit
