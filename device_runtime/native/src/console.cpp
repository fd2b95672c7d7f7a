#include "console.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>

#include "errors.h"

namespace fbkit {

Console::Console(bool lets_runtime_speak) : own_stderr_(::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3)) {
  if (lets_runtime_speak || own_stderr_ < 0) return;
  const Descriptor nowhere(::open("/dev/null", O_WRONLY | O_CLOEXEC));
  if (nowhere.is_open()) ::dup2(nowhere.number(), STDERR_FILENO);
}

Console::~Console() {
  if (own_stderr_ < 0) return;
  ::dup2(own_stderr_, STDERR_FILENO);
  ::close(own_stderr_);
}

void Console::line(const std::string& text) const { std::printf("%s\n", printable(text).c_str()); }

// Letters beyond ASCII are escaped, and what is not UTF-8 in a file's name is replaced.
void Console::json(const OrderedJson& value) const {
  std::printf("%s\n", value.dump(-1, ' ', true, OrderedJson::error_handler_t::replace).c_str());
}

void Console::error(const std::string& text) const { say("fbkit-device: " + printable(text) + "\n"); }

Progress Console::progress(bool quiet) const {
  if (quiet || own_stderr_ < 0 || !::isatty(own_stderr_)) return [](std::size_t, std::size_t) {};
  return [this](std::size_t done, std::size_t all) {
    say("\rlooking at pictures " + std::to_string(done) + "/" + std::to_string(all) + (done == all ? "\n" : ""));
  };
}

void Console::say(const std::string& text) const {
  if (own_stderr_ >= 0 && ::write(own_stderr_, text.data(), text.size()) < 0) return;  // nobody to tell
}

}  // namespace fbkit
