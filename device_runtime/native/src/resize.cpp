#include "resize.h"

#include <algorithm>
#include <cmath>

namespace fbkit {
namespace {

constexpr int kLongestStrip = 64;
constexpr int kPrecision = 32 - 8 - 2;  // bits of a weight behind the point: sums of 8-bit values stay within 32

// For one place of the output: the first input it depends on, and the weights from there on, in 2^-kPrecision.
struct Taps {
  int first = 0;
  std::vector<int> weights;
};

// A triangle as wide as two inputs, or where the picture shrinks as two outputs; cut off at the border, sum 1.
std::vector<Taps> taps_of(int in_size, int out_size) {
  const double scale = static_cast<double>(in_size) / out_size;
  const double reach = std::max(scale, 1.0);
  std::vector<Taps> all(static_cast<std::size_t>(out_size));
  for (int place = 0; place < out_size; ++place) {
    const double center = (place + 0.5) * scale;
    const int first = std::max(0, static_cast<int>(center - reach + 0.5));
    const int end = std::min(in_size, static_cast<int>(center + reach + 0.5));
    std::vector<double> weights;
    double sum = 0;
    for (int x = first; x < end; ++x) {
      const double away = std::abs((x - center + 0.5) * (1.0 / reach));
      weights.push_back(away < 1.0 ? 1.0 - away : 0.0);
      sum += weights.back();
    }
    Taps& taps = all[static_cast<std::size_t>(place)];
    taps.first = first;
    for (const double weight : weights) {
      taps.weights.push_back(static_cast<int>(0.5 + weight / sum * (1 << kPrecision)));
    }
  }
  return all;
}

std::uint8_t rounded(int sum) { return static_cast<std::uint8_t>(std::clamp(sum >> kPrecision, 0, 255)); }

Pixels resize_across(const Pixels& in, int width) {
  Pixels out(width, in.height, in.channels);
  const auto all = taps_of(in.width, width);
  for (int y = 0; y < in.height; ++y) {
    const std::uint8_t* from = in.row(y);
    std::uint8_t* to = out.row(y);
    for (const Taps& taps : all) {
      for (int channel = 0; channel < in.channels; ++channel) {
        int sum = 1 << (kPrecision - 1);
        const std::uint8_t* pixel = from + taps.first * in.channels + channel;
        for (const int weight : taps.weights) {
          sum += *pixel * weight;
          pixel += in.channels;
        }
        *to++ = rounded(sum);
      }
    }
  }
  return out;
}

Pixels resize_down(const Pixels& in, int height) {
  Pixels out(in.width, height, in.channels);
  const auto all = taps_of(in.height, height);
  const int values = in.width * in.channels;
  std::vector<int> sums(static_cast<std::size_t>(values));
  for (int y = 0; y < height; ++y) {
    const Taps& taps = all[static_cast<std::size_t>(y)];
    std::fill(sums.begin(), sums.end(), 1 << (kPrecision - 1));
    int from = taps.first;
    for (const int weight : taps.weights) {
      const std::uint8_t* row = in.row(from++);
      for (int x = 0; x < values; ++x) sums[static_cast<std::size_t>(x)] += row[x] * weight;
    }
    std::transform(sums.begin(), sums.end(), out.row(y), rounded);
  }
  return out;
}

Pixels crop(const Pixels& in, int left, int top, int width, int height) {
  Pixels out(width, height, in.channels);
  for (int y = 0; y < height; ++y) {
    const std::uint8_t* from = in.row(top + y) + left * in.channels;
    std::copy(from, from + width * in.channels, out.row(y));
  }
  return out;
}

Pixels without_far_ends(const Pixels& in, long ratio) {
  const int width = static_cast<int>(std::min<long>(in.width, ratio * in.height));
  const int height = static_cast<int>(std::min<long>(in.height, ratio * in.width));
  if (width == in.width && height == in.height) return in;
  return crop(in, (in.width - width) / 2, (in.height - height) / 2, width, height);
}

// Half to even, as Python rounds.
int half(int size) { return static_cast<int>(std::nearbyint(size / 2.0)); }

}  // namespace

Pixels fit_picture(const Pixels& picture, int height, int width) {
  const long ratio = static_cast<long>(kLongestStrip) * std::max(height, width) / std::min(height, width);
  Pixels now = without_far_ends(picture, ratio);
  int to_width = width, to_height = height;
  if (static_cast<long>(height) * now.width >= static_cast<long>(width) * now.height) {
    to_width = std::max(width, static_cast<int>(static_cast<double>(height) * now.width / now.height));
  } else {
    to_height = std::max(height, static_cast<int>(static_cast<double>(width) * now.height / now.width));
  }
  if (to_width != now.width) now = resize_across(now, to_width);
  if (to_height != now.height) now = resize_down(now, to_height);
  return crop(now, half(to_width - width), half(to_height - height), width, height);
}

}  // namespace fbkit
