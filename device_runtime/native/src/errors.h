// Errors that people can do something about: one line, exit code 2.
#pragma once

#include <stdexcept>
#include <string>

namespace fbkit {

class UserError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace fbkit
