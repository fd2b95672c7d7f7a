// What commands say to people and to programs: results on stdout, progress and errors on stderr.
#pragma once

#include <string>

#include "fields.h"
#include "looking.h"

namespace fbkit {

using OrderedJson = nlohmann::ordered_json;  // keys stay in the order in which they were added

class Console {
 public:
  // ExecuTorch comments on its own start to stderr; unless it may, people see this program's lines only.
  explicit Console(bool lets_runtime_speak);
  ~Console();
  Console(const Console&) = delete;
  Console& operator=(const Console&) = delete;

  void line(const std::string& text) const;   // on stdout
  void json(const OrderedJson& value) const;  // on stdout
  void error(const std::string& text) const;  // on stderr
  Progress progress(bool quiet) const;        // on stderr, if that is a terminal

 private:
  void say(const std::string& text) const;

  int own_stderr_;
};

}  // namespace fbkit
