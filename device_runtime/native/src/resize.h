// The last step from a picture to the body's input; the arithmetic is Pillow's, so that the pixels are.
#pragma once

#include "pixels.h"

namespace fbkit {

// Resize to just cover height x width, bilinear with antialiasing, and cut the centre out.
// A strip 64 times longer than the target is cut before it is resized.
Pixels fit_picture(const Pixels& picture, int height, int width);

}  // namespace fbkit
