// The frozen body: pictures to features.
#pragma once

#include "head.h"
#include "manifest.h"
#include "pixels.h"
#include "program.h"

namespace fbkit {

// uint8 pictures to float32 [N, channels, height, width]: (value / 255 - mean) / std.
Floats normalise(const std::vector<Pixels>& pictures, const InputSpec& spec);

class Body {
 public:
  // data is the body's file. Throws UserError if it cannot be loaded.
  Body(Bytes data, const Manifest& manifest);

  // Normalised pictures [N, channels, height, width] to features [N, F]. Throws UserError if the body fails.
  Floats features(const Floats& images);

 private:
  Floats run(const float* images, std::size_t count, std::size_t size);

  const Manifest& manifest_;
  Program program_;
};

}  // namespace fbkit
