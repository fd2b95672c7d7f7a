#include "errors.h"

#include <cstdint>

namespace fbkit {
namespace {

struct Letter {
  std::uint32_t code = 0;
  std::size_t bytes = 0;  // 0: not UTF-8
};

Letter letter_at(const std::string& text, std::size_t at) {
  const auto byte = [&](std::size_t place) { return static_cast<std::uint8_t>(text[place]); };
  const std::uint8_t first = byte(at);
  if (first < 0x80) return {first, 1};
  const std::size_t bytes = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || at + bytes > text.size()) return {};
  std::uint32_t code = first & (0xFFu >> (bytes + 1));
  for (std::size_t place = at + 1; place < at + bytes; ++place) {
    if ((byte(place) & 0xC0) != 0x80) return {};
    code = code << 6 | (byte(place) & 0x3Fu);
  }
  const bool is_surrogate = code >= 0xD800 && code <= 0xDFFF;
  const std::uint32_t least = bytes == 4 ? 0x10000 : bytes == 3 ? 0x800 : 0x80;
  if (code < least || code > 0x10FFFF || is_surrogate) return {};
  return {code, bytes};
}

bool is_shown(std::uint32_t code) {
  struct Range {
    std::uint32_t first, last;
  };
  constexpr Range kHidden[] = {
      {0x00, 0x1F},     {0x7F, 0xA0},     {0xAD, 0xAD},     {0x61C, 0x61C},      {0x1680, 0x1680},
      {0x180E, 0x180E}, {0x2000, 0x200F}, {0x2028, 0x202F}, {0x205F, 0x206F},    {0x3000, 0x3000},
      {0xE000, 0xF8FF}, {0xFEFF, 0xFEFF}, {0xFFF0, 0xFFFB}, {0xE0000, 0x10FFFF},
  };
  for (const Range& range : kHidden) {
    if (code >= range.first && code <= range.last) return code >= 0xE0100 && code <= 0xE01EF;  // variants of letters
  }
  return true;
}

}  // namespace

std::string printable(const std::string& text) {
  std::string shown;
  for (std::size_t at = 0; at < text.size();) {
    const Letter letter = letter_at(text, at);
    const std::size_t bytes = letter.bytes ? letter.bytes : 1;
    shown += letter.bytes && is_shown(letter.code) ? text.substr(at, bytes) : "?";
    at += bytes;
  }
  return shown;
}

}  // namespace fbkit
