// PNG through libpng.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "decoded.h"

namespace fbkit {

// What is transparent is taken for opaque, and of 16 bits the high 8. Throws UserError if it is damaged or absurdly
// large.
Decoded decode_png(const std::vector<std::uint8_t>& data, const std::string& name);

}  // namespace fbkit
