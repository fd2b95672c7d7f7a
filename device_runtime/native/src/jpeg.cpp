#include "jpeg.h"

#include <jerror.h>
#include <jpeglib.h>

#include <csetjmp>
#include <cstdio>
#include <cstring>

#include "errors.h"

namespace fbkit {
namespace {

constexpr std::size_t kMarker = sizeof("Exif\0") /* with both zeros */;

// libjpeg ends with longjmp, over which nothing with a destructor may lie.
struct Failure {
  jpeg_error_mgr manager;
  std::jmp_buf jump;
  char message[JMSG_LENGTH_MAX];
};

[[noreturn]] void fail(j_common_ptr info) {
  auto* failure = reinterpret_cast<Failure*>(info->err);
  info->err->format_message(info, failure->message);
  std::longjmp(failure->jump, 1);
}

// Of what libjpeg puts up with, only the end of the file in the middle of a picture is not put up with here.
void on_message(j_common_ptr info, int level) {
  if (level < 0 && info->err->msg_code == JWRN_JPEG_EOF) fail(info);
}

// The steps that can fail. What they fill lives in the caller.
bool decode(jpeg_decompress_struct& info, Failure& failure, const std::vector<std::uint8_t>& data, Decoded& out,
            bool& too_large) {
  if (setjmp(failure.jump)) return false;
  jpeg_create_decompress(&info);
  jpeg_mem_src(&info, data.data(), data.size());
  jpeg_save_markers(&info, JPEG_APP0 + 1, 0xFFFF);
  jpeg_read_header(&info, TRUE);
  if ((too_large = is_absurd(info.image_width, info.image_height))) return false;
  info.out_color_space = info.jpeg_color_space == JCS_GRAYSCALE ? JCS_GRAYSCALE : JCS_RGB;
  jpeg_start_decompress(&info);
  out.pixels =
      Pixels(static_cast<int>(info.output_width), static_cast<int>(info.output_height), info.output_components);
  while (info.output_scanline < info.output_height) {
    JSAMPROW row = out.pixels.row(static_cast<int>(info.output_scanline));
    jpeg_read_scanlines(&info, &row, 1);
  }
  for (jpeg_saved_marker_ptr marker = info.marker_list; marker; marker = marker->next) {
    if (marker->data_length > kMarker && !std::memcmp(marker->data, "Exif\0", kMarker)) {
      out.exif.assign(marker->data + kMarker, marker->data + marker->data_length);
      break;
    }
  }
  return true;
}

}  // namespace

Decoded decode_jpeg(const std::vector<std::uint8_t>& data, const std::string& name) {
  jpeg_decompress_struct info{};
  Failure failure{};
  info.err = jpeg_std_error(&failure.manager);
  failure.manager.error_exit = fail;
  failure.manager.emit_message = on_message;
  Decoded out;
  bool too_large = false;
  const bool is_good = decode(info, failure, data, out, too_large);
  jpeg_destroy_decompress(&info);
  if (too_large) throw UserError(name + ": has too many pixels to be opened safely");
  if (!is_good) throw UserError(name + ": damaged, cannot be decoded (" + failure.message + ")");
  return out;
}

}  // namespace fbkit
