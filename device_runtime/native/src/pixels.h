// 8-bit pictures in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace fbkit {

// Rows from the top, pixels from the left, channels interleaved: 1 is grey, 3 is RGB.
struct Pixels {
  int width = 0;
  int height = 0;
  int channels = 0;
  std::vector<std::uint8_t> data;

  Pixels() = default;
  Pixels(int width, int height, int channels)
      : width(width),
        height(height),
        channels(channels),
        data(static_cast<std::size_t>(width) * static_cast<std::size_t>(height) * static_cast<std::size_t>(channels)) {}

  std::uint8_t* row(int y) { return data.data() + offset(y); }
  const std::uint8_t* row(int y) const { return data.data() + offset(y); }

 private:
  std::size_t offset(int y) const {
    return static_cast<std::size_t>(y) * static_cast<std::size_t>(width) * static_cast<std::size_t>(channels);
  }
};

}  // namespace fbkit
