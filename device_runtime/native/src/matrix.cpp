#include "matrix.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace fbkit {

Matrix rows_at(const Matrix& matrix, const std::vector<Index>& places) {
  Matrix rows(static_cast<Index>(places.size()), matrix.cols());
  for (std::size_t row = 0; row < places.size(); ++row) rows.row(static_cast<Index>(row)) = matrix.row(places[row]);
  return rows;
}

Labels labels_at(const Labels& labels, const std::vector<Index>& places) {
  Labels some;
  for (const Index place : places) some.push_back(labels[static_cast<std::size_t>(place)]);
  return some;
}

double relative_error(const Matrix& found, const Matrix& expected) {
  double largest = 0, scale = std::numeric_limits<float>::min();
  for (Index place = 0; place < expected.size(); ++place) {
    const double difference = std::abs(static_cast<double>(found.data()[place]) - expected.data()[place]);
    if (std::isnan(difference)) return difference;
    largest = std::max(largest, difference);
    scale = std::max(scale, std::abs(static_cast<double>(expected.data()[place])));
  }
  return largest / scale;
}

}  // namespace fbkit
