// From a picture file's bytes to upright pixels.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "pixels.h"

namespace fbkit {

// Decode JPEG or PNG to 8 bits, turned by its EXIF orientation; channels 1 is grey, 3 is RGB.
// Throws UserError, whose message starts with name.
Pixels decode_picture(const std::vector<std::uint8_t>& data, int channels, const std::string& name);

}  // namespace fbkit
