// The frozen body: pictures to features.
#pragma once

#include "head.h"
#include "manifest.h"
#include "pixels.h"
#include "program.h"

namespace fbkit {

// uint8 pictures to float32 [N, channels * height * width]: (value / 255 - mean) / std.
Matrix normalise(const std::vector<Pixels>& pictures, const InputSpec& spec);

// A body, or body and head in one: whatever takes pictures in the manifest's batches, by methods b1, b32, ...
class Body {
 public:
  // data is the bytes of the manifest's file name; it gives width numbers for each picture.
  // Throws UserError if it cannot be loaded.
  Body(Bytes data, const std::string& name, Index width, const Manifest& manifest);

  // Normalised pictures [N, channels * height * width] to [N, width]. Throws UserError if it fails.
  Matrix features(const Matrix& images);

 private:
  Matrix run(const float* images, Index count, Index size);

  std::string name_;
  Index width_;
  std::vector<int> shape_, batches_;
  Program program_;
};

}  // namespace fbkit
