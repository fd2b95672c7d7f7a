// JPEG through libjpeg-turbo, which Pillow uses, too.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "decoded.h"

namespace fbkit {

// Throws UserError if it is damaged, cut short, absurdly large or of a colour space that is neither grey nor RGB.
Decoded decode_jpeg(const std::vector<std::uint8_t>& data, const std::string& name);

}  // namespace fbkit
