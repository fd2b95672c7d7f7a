// Errors that people can do something about: one line, exit code 2.
#pragma once

#include <stdexcept>
#include <string>

namespace fbkit {

class UserError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// UTF-8 text, such as a file's name, without what a screen would obey: control characters, and marks that change the
// direction of writing or show nothing. Each becomes a question mark, and so does what is not UTF-8.
std::string printable(const std::string& text);

}  // namespace fbkit
