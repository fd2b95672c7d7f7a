// What a decoder finds in a picture file.
#pragma once

#include <cstdint>
#include <vector>

#include "pixels.h"

namespace fbkit {

struct Decoded {
  Pixels pixels;                   // grey or RGB, as the file has it
  std::vector<std::uint8_t> exif;  // the TIFF structure; empty if there is none
};

// Whether a picture has more pixels than can be opened safely; the limit is Pillow's.
inline bool is_absurd(std::uint64_t width, std::uint64_t height) {
  return width * height > 1024ull * 1024 * 1024 / 4 / 3;
}

}  // namespace fbkit
