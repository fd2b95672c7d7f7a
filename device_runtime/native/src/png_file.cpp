#include "png_file.h"

#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstring>

#include "errors.h"

namespace fbkit {
namespace {

struct Source {
  const std::vector<std::uint8_t>& data;
  std::size_t at = 0;
  char message[200] = "";
};

void read(png_structp png, png_bytep to, std::size_t bytes) {
  auto* source = static_cast<Source*>(png_get_io_ptr(png));
  if (bytes > source->data.size() - source->at) png_error(png, "it is cut short");
  std::memcpy(to, source->data.data() + source->at, bytes);
  source->at += bytes;
}

[[noreturn]] void fail(png_structp png, png_const_charp message) {
  auto* source = static_cast<Source*>(png_get_error_ptr(png));
  std::strncpy(source->message, message, sizeof(source->message) - 1);
  png_longjmp(png, 1);
}

void ignore(png_structp, png_const_charp) {}

// The steps that can fail. What they fill lives in the caller.
bool decode(png_structp png, png_infop info, Decoded& out, std::vector<png_bytep>& rows, bool& too_large) {
  if (setjmp(png_jmpbuf(png))) return false;
  png_read_info(png, info);
  const png_uint_32 width = png_get_image_width(png, info), height = png_get_image_height(png, info);
  if ((too_large = is_absurd(width, height))) return false;
  const int type = png_get_color_type(png, info);
  if (type == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(png);
  if (type == PNG_COLOR_TYPE_GRAY) png_set_expand_gray_1_2_4_to_8(png);
  png_set_strip_16(png);
  png_set_strip_alpha(png);
  png_set_interlace_handling(png);
  png_read_update_info(png, info);
  out.pixels = Pixels(static_cast<int>(width), static_cast<int>(height), png_get_channels(png, info));
  rows.resize(height);
  for (int y = 0; y < out.pixels.height; ++y) rows[static_cast<std::size_t>(y)] = out.pixels.row(y);
  png_read_image(png, rows.data());
  png_read_end(png, info);
  png_bytep exif = nullptr;
  png_uint_32 size = 0;
  if (png_get_eXIf_1(png, info, &size, &exif)) out.exif.assign(exif, exif + size);
  return true;
}

}  // namespace

Decoded decode_png(const std::vector<std::uint8_t>& data, const std::string& name) {
  Source source{data};
  png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &source, fail, ignore);
  png_infop info = png ? png_create_info_struct(png) : nullptr;
  Decoded out;
  std::vector<png_bytep> rows;
  bool too_large = false, is_good = false;
  if (info) {
    png_set_read_fn(png, &source, read);
    is_good = decode(png, info, out, rows, too_large);
  }
  png_destroy_read_struct(&png, &info, nullptr);
  if (too_large) throw UserError(name + ": has too many pixels to be opened safely");
  if (!is_good) throw UserError(name + ": damaged, cannot be decoded (" + source.message + ")");
  return out;
}

}  // namespace fbkit
