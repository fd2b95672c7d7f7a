#include "head.h"

#include <algorithm>
#include <cmath>

#include "safetensors.h"

namespace fbkit {

Floats Head::logits(const Floats& rows) const {
  const std::size_t count = rows.size() / features;
  Floats out(count * classes);
  for (std::size_t row = 0; row < count; ++row) {
    const float* x = &rows[row * features];
    for (std::size_t label = 0; label < classes; ++label) {
      const float* w = &weight[label * features];
      double sum = 0;  // float64, so that it depends on no order
      for (std::size_t place = 0; place < features; ++place) sum += static_cast<double>(w[place]) * x[place];
      out[row * classes + label] = static_cast<float>(sum + bias[label]);
    }
  }
  return out;
}

Floats Head::probabilities(const Floats& rows) const {
  Floats out = logits(rows);
  for (auto row = out.begin(); row != out.end(); row += static_cast<std::ptrdiff_t>(classes)) {
    const auto end = row + static_cast<std::ptrdiff_t>(classes);
    const float largest = *std::max_element(row, end);
    float sum = 0;
    for (auto each = row; each != end; ++each) sum += *each = std::exp(*each - largest);
    for (auto each = row; each != end; ++each) *each /= sum;
  }
  return out;
}

Bytes Head::to_bytes() const {
  const auto rows = static_cast<std::int64_t>(classes), columns = static_cast<std::int64_t>(features);
  return pack_tensors({{"weight", stored("F32", {rows, columns}, weight)}, {"bias", stored("F32", {rows}, bias)}});
}

Head head_from_bytes(const Bytes& data, std::size_t classes, std::size_t features, const std::string& origin) {
  const auto rows = static_cast<std::int64_t>(classes), columns = static_cast<std::int64_t>(features);
  const auto tensors = unpack_tensors(data, {{"weight", {"F32", {rows, columns}}}, {"bias", {"F32", {rows}}}}, origin);
  return {classes, features, tensors.at("weight").as<float>(), tensors.at("bias").as<float>()};
}

}  // namespace fbkit
