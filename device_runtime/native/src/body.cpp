#include "body.h"

#include <algorithm>

#include "errors.h"

namespace fbkit {

Matrix normalise(const std::vector<Pixels>& pictures, const InputSpec& spec) {
  const Index channels = spec.channels, area = Index{spec.height} * spec.width;
  Matrix images(static_cast<Index>(pictures.size()), channels * area);
  float* next = images.data();
  for (const Pixels& picture : pictures) {
    for (Index channel = 0; channel < channels; ++channel) {
      const auto mean = static_cast<float>(spec.mean[static_cast<std::size_t>(channel)]);
      const auto std = static_cast<float>(spec.std[static_cast<std::size_t>(channel)]);
      for (Index place = channel; place < channels * area; place += channels) {
        *next++ = (static_cast<float>(picture.data[static_cast<std::size_t>(place)]) / 255.0f - mean) / std;
      }
    }
  }
  return images;
}

Body::Body(Bytes data, const std::string& name, Index width, const Manifest& manifest)
    : name_(name),
      width_(width),
      shape_{manifest.input.channels, manifest.input.height, manifest.input.width},
      batches_(manifest.body_batches),
      program_(std::move(data), name) {}

Matrix Body::features(const Matrix& images) {
  Matrix found(images.rows(), width_);
  for (Index start = 0; start < images.rows();) {
    const Index rest = images.rows() - start;
    Index size = 1;
    for (const int batch : batches_) {
      if (batch < 2 * rest) size = batch;  // more than half full costs less, padded, than one by one
      if (batch == rest) break;
    }
    const Index taken = std::min(size, rest);
    found.middleRows(start, taken) = run(images.row(start).data(), taken, size);
    start += taken;
  }
  return found;
}

Matrix Body::run(const float* images, Index count, Index size) {
  const Index values = Index{shape_[0]} * shape_[1] * shape_[2];
  Matrix padded;
  if (count < size) {
    padded = Matrix::Zero(size, values);
    padded.topRows(count) = Eigen::Map<const Matrix>(images, count, values);
    images = padded.data();
  }
  const std::string method = "b" + std::to_string(size);
  const auto outputs = program_.run(method, {{{static_cast<int>(size), shape_[0], shape_[1], shape_[2]}, images}});
  if (outputs.empty() || outputs[0].shape != std::vector<int>{static_cast<int>(size), static_cast<int>(width_)}) {
    throw UserError(name_ + ": its method " + method + " gives something else than the manifest says");
  }
  return Eigen::Map<const Matrix>(outputs[0].values.data(), count, width_);
}

}  // namespace fbkit
