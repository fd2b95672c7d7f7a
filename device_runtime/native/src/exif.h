// The one thing that matters of EXIF here.
#pragma once

#include <cstdint>
#include <vector>

namespace fbkit {

// 1 to 8; 1, which is upright, where tiff says nothing or is damaged.
int exif_orientation(const std::vector<std::uint8_t>& tiff);

}  // namespace fbkit
