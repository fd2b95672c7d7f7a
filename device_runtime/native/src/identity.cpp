#include "identity.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>

namespace fbkit {
namespace {

// Python's json.dumps with sorted keys: ", " and ": " between, nothing but ASCII, numbers in floats as in_decimals.
std::string dump(const Json& value) {
  if (value.is_number_float()) return in_decimals(value.get<double>());
  if (!value.is_structured()) return value.dump(-1, ' ', true);
  std::string text;
  for (const auto& [key, item] : value.items()) {  // the library sorts keys by byte, which for UTF-8 is by code point
    if (!text.empty()) text += ", ";
    if (value.is_object()) text += Json(key).dump(-1, ' ', true) + ": ";
    text += dump(item);
  }
  return value.is_object() ? "{" + text + "}" : "[" + text + "]";
}

Json as_floats(const Json& numbers) {
  Json floats = Json::array();
  for (const Json& number : numbers) floats.push_back(number.get<double>());
  return floats;
}

}  // namespace

std::string in_decimals(double value) {
  std::array<char, 32> buffer{};
  const auto end =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::scientific).ptr;
  std::string text(buffer.data(), end);
  const auto mark = text.find('e');
  const int exponent = std::atoi(text.c_str() + mark + 1);
  std::string digits = text.substr(0, mark);
  const std::string sign = digits[0] == '-' ? "-" : "";
  digits.erase(0, sign.size());
  if (value == 0) return sign + "0.0";
  if (exponent < -4 || exponent >= 16) {
    const std::string size = std::to_string(std::abs(exponent));
    return sign + digits + (exponent < 0 ? "e-" : "e+") + (size.size() < 2 ? "0" : "") + size;
  }
  digits.erase(std::remove(digits.begin(), digits.end(), '.'), digits.end());
  if (exponent < 0) return sign + "0." + std::string(static_cast<std::size_t>(-exponent - 1), '0') + digits;
  const auto whole = static_cast<std::size_t>(exponent) + 1;
  if (digits.size() <= whole) return sign + digits + std::string(whole - digits.size(), '0') + ".0";
  return sign + digits.substr(0, whole) + "." + digits.substr(whole);
}

std::string identity_of(const Json& manifest) {
  Json input;
  for (const char* key : {"channels", "height", "width"}) input[key] = manifest["input"][key];
  for (const char* key : {"mean", "std"}) input[key] = as_floats(manifest["input"][key]);
  Json files;
  for (const auto& [name, entry] : manifest["files"].items()) {
    files[name] = {{"bytes", entry["bytes"]}, {"sha256", entry["sha256"]}};
  }
  Json batches = manifest["body"]["batch_sizes"];
  std::sort(batches.begin(), batches.end());
  Json deciding = {
      {"body", manifest["body"]["file"]},
      {"body_batches", batches},
      {"feature_tolerance", manifest["probe"]["tolerance"].get<double>()},
      {"files", files},
      {"head", manifest["head"]["file"]},
      {"head_step", manifest["head_step"]["file"]},
      {"input", input},
      {"probe", manifest["probe"]["file"]},
      {"step_batch", manifest["head_step"]["batch_size"]},
  };
  for (const char* key : {"target", "precision", "classes", "features"}) deciding[key] = manifest[key];
  const std::string text = dump(deciding);
  return sha256(Bytes(text.begin(), text.end()));
}

}  // namespace fbkit
