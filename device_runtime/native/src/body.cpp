#include "body.h"

#include <algorithm>

#include "errors.h"

namespace fbkit {
namespace {

std::size_t values_of(const InputSpec& spec) {
  return static_cast<std::size_t>(spec.channels) * static_cast<std::size_t>(spec.height) *
         static_cast<std::size_t>(spec.width);
}

}  // namespace

Floats normalise(const std::vector<Pixels>& pictures, const InputSpec& spec) {
  const auto channels = static_cast<std::size_t>(spec.channels);
  const std::size_t area = values_of(spec) / channels;
  Floats images;
  images.reserve(pictures.size() * values_of(spec));
  for (const Pixels& picture : pictures) {
    for (std::size_t channel = 0; channel < channels; ++channel) {
      const auto mean = static_cast<float>(spec.mean[channel]), std = static_cast<float>(spec.std[channel]);
      for (std::size_t place = 0; place < area; ++place) {
        const auto value = static_cast<float>(picture.data[place * channels + channel]);
        images.push_back((value / 255.0f - mean) / std);
      }
    }
  }
  return images;
}

Body::Body(Bytes data, const Manifest& manifest) : manifest_(manifest), program_(std::move(data), manifest.body) {}

Floats Body::features(const Floats& images) {
  const std::size_t values = values_of(manifest_.input), count = images.size() / values;
  Floats found;
  for (std::size_t start = 0; start < count;) {
    const std::size_t rest = count - start;
    std::size_t size = 1;
    for (const int batch : manifest_.body_batches) {
      const auto many = static_cast<std::size_t>(batch);
      if (many == rest) {  // full
        size = many;
        break;
      }
      if (many < 2 * rest) size = many;  // more than half full costs less, padded, than one by one
    }
    const std::size_t taken = std::min(size, rest);
    const Floats part = run(&images[start * values], taken, size);
    found.insert(found.end(), part.begin(), part.end());
    start += taken;
  }
  return found;
}

Floats Body::run(const float* images, std::size_t count, std::size_t size) {
  const InputSpec& spec = manifest_.input;
  Tensor input;
  input.shape = {static_cast<int>(size), spec.channels, spec.height, spec.width};
  input.floats.assign(images, images + count * values_of(spec));
  input.floats.resize(size * values_of(spec));
  const std::string method = "b" + std::to_string(size);
  auto outputs = program_.run(method, {std::move(input)});
  if (outputs.empty() || outputs[0].shape != std::vector<int>{static_cast<int>(size), manifest_.features}) {
    throw UserError(manifest_.body + ": its method " + method + " gives something else than the manifest says");
  }
  Floats features = std::move(outputs[0].floats);
  features.resize(count * static_cast<std::size_t>(manifest_.features));
  return features;
}

}  // namespace fbkit
