#include "memory.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <set>

#include "errors.h"
#include "safetensors.h"

namespace fbkit {
namespace {

using Half = Eigen::half;
constexpr std::size_t kDigestBytes = 32;
constexpr int kLeastExponent = -100, kMostExponent = 127;

// For each row a power of two by which its largest value comes to lie above 0.5, at most at 1.
std::vector<float> scales_of(const Matrix& features) {
  std::vector<float> scales;
  for (Index row = 0; row < features.rows(); ++row) {
    const float largest = features.cols() ? features.row(row).cwiseAbs().maxCoeff() : 0.0f;
    int exponent = 0;
    const float mantissa = std::frexp(largest, &exponent);
    exponent = std::clamp(exponent - (mantissa == 0.5f), kLeastExponent, kMostExponent);
    scales.push_back(largest > 0 ? std::ldexp(1.0f, exponent) : 1.0f);
  }
  return scales;
}

std::vector<Half> in_16_bits(const Matrix& features, const std::vector<float>& scales) {
  std::vector<Half> halves;
  halves.reserve(static_cast<std::size_t>(features.size()));
  for (Index row = 0; row < features.rows(); ++row) {
    const float scale = scales[static_cast<std::size_t>(row)];
    for (Index place = 0; place < features.cols(); ++place) halves.emplace_back(features(row, place) / scale);
  }
  return halves;
}

Matrix in_32_bits(const std::vector<Half>& halves, const std::vector<float>& scales, Index columns) {
  Matrix features(static_cast<Index>(scales.size()), columns);
  for (Index row = 0; row < features.rows(); ++row) {
    for (Index place = 0; place < columns; ++place) {
      const auto half = halves[static_cast<std::size_t>(row * columns + place)];
      features(row, place) = static_cast<float>(half) * scales[static_cast<std::size_t>(row)];
    }
  }
  return features;
}

template <typename T>
std::vector<T> chosen(const std::vector<T>& values, const Mask& rows) {
  std::vector<T> some;
  for (std::size_t row = 0; row < values.size(); ++row) {
    if (rows[row]) some.push_back(values[row]);
  }
  return some;
}

template <typename T>
std::vector<T> joined(std::vector<T> one, const std::vector<T>& other) {
  one.insert(one.end(), other.begin(), other.end());
  return one;
}

double now() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }

template <typename T>
std::vector<T> values_of(const StoredTensor& tensor) {
  std::vector<T> values(tensor.data.size() / sizeof(T));
  tensor.copy_to(values.data());
  return values;
}

}  // namespace

std::map<std::string, std::size_t> Memory::rows_by_digest() const {
  std::map<std::string, std::size_t> rows;
  for (std::size_t row = 0; row < size(); ++row) rows[digests[row]] = row;
  return rows;
}

Memory Memory::where(const Mask& rows) const {
  std::vector<Index> places;
  for (std::size_t row = 0; row < size(); ++row) {
    if (rows[row]) places.push_back(static_cast<Index>(row));
  }
  return {chosen(numbers, rows), chosen(digests, rows), chosen(labels, rows), chosen(times, rows),
          rows_at(features, places)};
}

Memory Memory::with(const Memory& more) const {
  Matrix both(features.rows() + more.features.rows(), features.cols());
  both << features, more.features;
  return {joined(numbers, more.numbers), joined(digests, more.digests), joined(labels, more.labels),
          joined(times, more.times), std::move(both)};
}

Memory Memory::without(const Memory& other) const {
  const auto taken = other.rows_by_digest();
  Mask stay(size());
  for (std::size_t row = 0; row < size(); ++row) stay[row] = !taken.count(digests[row]);
  return where(stay);
}

Memory Memory::new_among(const std::vector<std::string>& given, const Labels& given_labels,
                         const Matrix& given_features, std::int64_t last) const {
  const auto known = rows_by_digest();
  Memory added = no_memory(features.cols());
  std::vector<Index> places;
  const double time = now();
  for (std::size_t place = 0; place < given.size(); ++place) {
    const auto found = known.find(given[place]);
    if (found != known.end() && labels[found->second] == given_labels[place]) continue;
    places.push_back(static_cast<Index>(place));
    added.numbers.push_back(++last);
    added.digests.push_back(given[place]);
    added.labels.push_back(given_labels[place]);
    added.times.push_back(time);
  }
  added.features = rows_at(given_features, places);
  return added;
}

Memory Memory::within(const Limits& limits) const {
  auto most = static_cast<std::int64_t>(size());
  if (limits.pictures) most = std::min(most, *limits.pictures);
  if (limits.bytes) most = std::min(most, *limits.bytes / (2 * features.cols() + 60));
  if (most == static_cast<std::int64_t>(size())) return *this;
  std::map<std::int64_t, std::vector<std::size_t>> by_class;  // newest first
  for (std::size_t row = size(); row-- > 0;) by_class[labels[row]].push_back(row);
  Mask stay(size(), true);
  for (auto left = static_cast<std::int64_t>(size()); left > most; --left) {
    const auto fewer = [](const auto& one, const auto& other) { return one.second.size() < other.second.size(); };
    auto& largest = std::max_element(by_class.begin(), by_class.end(), fewer)->second;
    stay[largest.back()] = false;
    largest.pop_back();
  }
  return where(stay);
}

Bytes Memory::to_bytes() const {
  const auto count = static_cast<std::int64_t>(size());
  const auto scales = scales_of(features);
  const auto halves = in_16_bits(features, scales);
  Bytes raw;
  for (const std::string& digest : digests) {
    const Bytes bytes = from_hex(digest);
    raw.insert(raw.end(), bytes.begin(), bytes.end());
  }
  return pack_tensors({
      {"numbers", stored("I64", {count}, numbers.data())},
      {"digests", stored("U8", {count, static_cast<std::int64_t>(kDigestBytes)}, raw.data())},
      {"labels", stored("I64", {count}, labels.data())},
      {"times", stored("F64", {count}, times.data())},
      {"features", stored("F16", {count, features.cols()}, halves.data())},
      {"scales", stored("F32", {count}, scales.data())},
  });
}

Memory no_memory(Index features) { return {{}, {}, {}, {}, Matrix(0, features)}; }

Memory memory_from_bytes(const Bytes& data, Index features, std::size_t classes, const std::string& origin) {
  const auto tensors = unpack_tensors(data,
                                      {{"numbers", {"I64", {-1}}},
                                       {"digests", {"U8", {-1, static_cast<std::int64_t>(kDigestBytes)}}},
                                       {"labels", {"I64", {-1}}},
                                       {"times", {"F64", {-1}}},
                                       {"features", {"F16", {-1, features}}},
                                       {"scales", {"F32", {-1}}}},
                                      origin);
  const std::int64_t count = tensors.at("numbers").rows();
  for (const auto& [name, tensor] : tensors) {
    if (tensor.rows() != count) throw UserError(origin + ": its tensors have different numbers of rows");
  }
  Memory memory;
  memory.numbers = values_of<std::int64_t>(tensors.at("numbers"));
  memory.labels = values_of<std::int64_t>(tensors.at("labels"));
  memory.times = values_of<double>(tensors.at("times"));
  memory.features =
      in_32_bits(values_of<Half>(tensors.at("features")), values_of<float>(tensors.at("scales")), features);
  const Bytes& raw = tensors.at("digests").data;
  for (auto at = raw.begin(); at != raw.end(); at += kDigestBytes)
    memory.digests.push_back(to_hex({at, at + kDigestBytes}));

  for (const std::int64_t label : memory.labels) {
    if (label < 0 || label >= static_cast<std::int64_t>(classes)) {
      throw UserError(origin + ": labels must be from 0 to " + std::to_string(classes - 1));
    }
  }
  const auto& numbers = memory.numbers;
  const bool rise = std::adjacent_find(numbers.begin(), numbers.end(), std::greater_equal<>()) == numbers.end();
  if (!rise || (count && numbers[0] < 1)) throw UserError(origin + ": numbers must be above 0 and rise");
  if (memory.rows_by_digest().size() < memory.size()) throw UserError(origin + ": holds a picture twice");
  if (!memory.features.allFinite()) throw UserError(origin + ": features must be finite");
  return memory;
}

Matrix as_stored(const Matrix& features) {
  const auto scales = scales_of(features);
  return in_32_bits(in_16_bits(features, scales), scales, features.cols());
}

}  // namespace fbkit
