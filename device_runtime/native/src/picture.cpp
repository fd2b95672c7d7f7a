#include "picture.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "errors.h"
#include "exif.h"
#include "jpeg.h"
#include "png_file.h"

namespace fbkit {
namespace {

// Grey as Pillow has it: ITU-R 601-2 in 16 bits behind the point.
std::uint8_t luma(const std::uint8_t* rgb) {
  return static_cast<std::uint8_t>((rgb[0] * 19595 + rgb[1] * 38470 + rgb[2] * 7471 + 0x8000) >> 16);
}

Pixels with_channels(Pixels in, int channels) {
  if (in.channels == channels) return in;
  Pixels out(in.width, in.height, channels);
  const std::size_t pixels = in.data.size() / static_cast<std::size_t>(in.channels);
  for (std::size_t place = 0; place < pixels; ++place) {
    if (channels == 1) {
      out.data[place] = luma(&in.data[3 * place]);
    } else {
      std::fill_n(&out.data[3 * place], 3, in.data[place]);
    }
  }
  return out;
}

// Orientations 5 to 8 change places of width and height; the table is the EXIF standard's, as steps back to upright.
Pixels upright(Pixels in, int orientation) {
  if (orientation < 2 || orientation > 8) return in;
  const bool turned = orientation >= 5;
  const bool right_to_left = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool bottom_up = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  Pixels out(turned ? in.height : in.width, turned ? in.width : in.height, in.channels);
  for (int y = 0; y < out.height; ++y) {
    std::uint8_t* to = out.row(y);
    for (int x = 0; x < out.width; ++x) {
      int column = turned ? y : x;
      int row = turned ? x : y;
      if (right_to_left) column = in.width - 1 - column;
      if (bottom_up) row = in.height - 1 - row;
      const std::uint8_t* from = in.row(row) + column * in.channels;
      to = std::copy(from, from + in.channels, to);
    }
  }
  return out;
}

bool starts_with(const std::vector<std::uint8_t>& data, std::initializer_list<std::uint8_t> magic) {
  return data.size() >= magic.size() && std::equal(magic.begin(), magic.end(), data.begin());
}

}  // namespace

Pixels decode_picture(const std::vector<std::uint8_t>& data, int channels, const std::string& name) {
  Decoded decoded;
  if (starts_with(data, {0xFF, 0xD8, 0xFF})) {
    decoded = decode_jpeg(data, name);
  } else if (starts_with(data, {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'})) {
    decoded = decode_png(data, name);
  } else {
    throw UserError(name + ": not a picture that can be read (known: JPEG, PNG)");
  }
  return with_channels(upright(std::move(decoded.pixels), exif_orientation(decoded.exif)), channels);
}

}  // namespace fbkit
