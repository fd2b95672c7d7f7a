// A JSON object read from disk, checked field by field, with messages that name file and key.
#pragma once

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "errors.h"
#include "files.h"

namespace fbkit {

using Json = nlohmann::json;

constexpr std::uint64_t kMostJsonBytes = 16 * 1024 * 1024;

// One JSON object of bounded size and depth, in which no key stands twice. path is for messages. Throws UserError.
Json parse_json(const Bytes& data, const Path& path);

class Fields {
 public:
  Fields(Path path, std::string place, const Json& values)
      : path_(std::move(path)), place_(std::move(place)), values_(values) {}

  UserError error(const std::string& key, const std::string& what) const;
  bool has(const std::string& key) const { return values_.contains(key); }
  const Json& value(const std::string& key) const;
  const Json& values() const { return values_; }
  Fields section(const std::string& key) const;
  std::string text(const std::string& key) const;
  bool flag(const std::string& key) const;
  std::int64_t integer(const std::string& key, std::int64_t least, std::int64_t most) const;
  double number(const std::string& key, double above = -std::numeric_limits<double>::infinity()) const;
  std::vector<double> numbers(const std::string& key, std::size_t count,
                              double above = -std::numeric_limits<double>::infinity()) const;
  std::vector<std::int64_t> integers(const std::string& key, std::int64_t least, std::int64_t most) const;
  // The objects of a list of at most most.
  std::vector<Fields> items(const std::string& key, std::size_t most) const;

 private:
  std::int64_t checked_integer(const std::string& key, const Json& value, std::int64_t least, std::int64_t most) const;
  double checked_number(const std::string& key, const Json& value, double above) const;

  Path path_;
  std::string place_;
  const Json& values_;
};

}  // namespace fbkit
