#include "exif.h"

#include <cstddef>

namespace fbkit {
namespace {

constexpr unsigned kOrientation = 0x0112, kShort = 3;

class Reader {
 public:
  explicit Reader(const std::vector<std::uint8_t>& data) : data_(data) {}

  bool set_byte_order() {
    if (data_.size() < 8 || data_[0] != data_[1] || (data_[0] != 'I' && data_[0] != 'M')) return false;
    is_big_endian_ = data_[0] == 'M';
    return number(2, 2) == 42;
  }

  // 0 beyond the end.
  std::uint32_t number(std::size_t at, std::size_t bytes) const {
    if (at > data_.size() || bytes > data_.size() - at) return 0;
    std::uint32_t value = 0;
    for (std::size_t place = 0; place < bytes; ++place) {
      value = value << 8 | data_[at + (is_big_endian_ ? place : bytes - 1 - place)];
    }
    return value;
  }

 private:
  const std::vector<std::uint8_t>& data_;
  bool is_big_endian_ = false;
};

}  // namespace

int exif_orientation(const std::vector<std::uint8_t>& tiff) {
  Reader reader(tiff);
  if (!reader.set_byte_order()) return 1;
  const std::size_t directory = reader.number(4, 4);
  const std::size_t entries = reader.number(directory, 2);
  for (std::size_t entry = 0; entry < entries; ++entry) {
    const std::size_t at = directory + 2 + 12 * entry;
    if (reader.number(at, 2) != kOrientation || reader.number(at + 2, 2) != kShort) continue;
    const auto found = static_cast<int>(reader.number(at + 8, 2));
    return found >= 1 && found <= 8 ? found : 1;
  }
  return 1;
}

}  // namespace fbkit
