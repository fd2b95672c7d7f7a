#include "fields.h"

#include <cmath>
#include <set>

namespace fbkit {
namespace {

constexpr int kMostDepth = 32;
constexpr double kLargest = 1e30;
constexpr std::size_t kMostText = 1000;

}  // namespace

Json parse_json(const Bytes& data, const Path& path) {
  const std::string at = path.string() + ": ";
  if (data.size() > kMostJsonBytes) {
    throw UserError(at + "larger than " + std::to_string(kMostJsonBytes) + " bytes; this is not a file fbkit wrote");
  }
  std::vector<std::set<std::string>> keys;
  const auto check = [&](int depth, Json::parse_event_t event, const Json& parsed) {
    if (depth > kMostDepth) throw UserError(at + "nested more than 32 deep; this is not a file fbkit wrote");
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key && !keys.back().insert(parsed.get<std::string>()).second) {
      throw UserError(at + "not readable as JSON (a key stands twice in one object)");
    }
    return true;
  };
  Json value;
  try {
    const auto* text = reinterpret_cast<const char*>(data.data());  // libc++ reads no unsigned characters
    value = Json::parse(text, text + data.size(), check);
  } catch (const Json::exception& error) {
    throw UserError(at + "not readable as JSON (" + error.what() + ")");
  }
  if (!value.is_object()) throw UserError(at + "expected a JSON object");
  return value;
}

UserError Fields::error(const std::string& key, const std::string& what) const {
  return UserError(path_.string() + ": " + place_ + key + " " + what);
}

const Json& Fields::value(const std::string& key) const {
  const auto found = values_.find(key);
  if (found == values_.end()) throw error(key, "is missing");
  return *found;
}

Fields Fields::section(const std::string& key) const {
  const Json& found = value(key);
  if (!found.is_object()) throw error(key, "must be an object");
  return Fields(path_, place_ + key + ".", found);
}

std::string Fields::text(const std::string& key) const {
  const Json& found = value(key);
  if (found.is_string()) {
    const auto text = found.get<std::string>();
    if (!text.empty() && text.size() <= 4 * kMostText && printable(text) == text) return text;
  }
  throw error(key, "must be a printable text");
}

bool Fields::flag(const std::string& key) const {
  const Json& found = value(key);
  if (!found.is_boolean()) throw error(key, "must be true or false");
  return found.get<bool>();
}

std::int64_t Fields::integer(const std::string& key, std::int64_t least, std::int64_t most) const {
  return checked_integer(key, value(key), least, most);
}

std::vector<std::int64_t> Fields::integers(const std::string& key, std::int64_t least, std::int64_t most) const {
  const Json& found = value(key);
  if (!found.is_array() || found.size() > 100) throw error(key, "must be a list of whole numbers");
  std::vector<std::int64_t> numbers;
  for (const Json& one : found) numbers.push_back(checked_integer(key, one, least, most));
  return numbers;
}

double Fields::number(const std::string& key, double above) const { return checked_number(key, value(key), above); }

std::vector<double> Fields::numbers(const std::string& key, std::size_t count, double above) const {
  const Json& found = value(key);
  if (!found.is_array() || found.size() != count) {
    throw error(key, "must be a list of " + std::to_string(count) + " numbers");
  }
  std::vector<double> numbers;
  for (const Json& one : found) numbers.push_back(checked_number(key, one, above));
  return numbers;
}

std::vector<Fields> Fields::items(const std::string& key, std::size_t most) const {
  const Json& found = value(key);
  if (!found.is_array() || found.size() > most) {
    throw error(key, "must be a list of at most " + std::to_string(most) + " objects");
  }
  std::vector<Fields> items;
  for (const Json& one : found) {
    if (!one.is_object()) throw error(key, "must be a list of at most " + std::to_string(most) + " objects");
    items.emplace_back(path_, place_ + key + "[" + std::to_string(items.size()) + "].", one);
  }
  return items;
}

std::int64_t Fields::checked_integer(const std::string& key, const Json& value, std::int64_t least,
                                     std::int64_t most) const {
  const bool fits =
      value.is_number_integer() && (!value.is_number_unsigned() || value.get<std::uint64_t>() <= INT64_MAX);
  if (!fits || value.get<std::int64_t>() < least || value.get<std::int64_t>() > most) {
    throw error(key, "must be a whole number from " + std::to_string(least) + " to " + std::to_string(most));
  }
  return value.get<std::int64_t>();
}

double Fields::checked_number(const std::string& key, const Json& value, double above) const {
  if (value.is_number()) {
    const double number = value.get<double>();
    if (std::isfinite(number) && std::abs(number) <= kLargest && number > above) return number;
  }
  throw error(key, "must be a number of sensible size");
}

}  // namespace fbkit
