// Matrices row by row, as all of fbkit's files have them, by Eigen.
#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <vector>

namespace fbkit {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using MatrixD = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Vector = Eigen::Matrix<float, 1, Eigen::Dynamic>;
using VectorD = Eigen::Matrix<double, 1, Eigen::Dynamic>;
using Index = Eigen::Index;
using Labels = std::vector<std::int64_t>;
using Mask = std::vector<bool>;

// The rows at these places.
Matrix rows_at(const Matrix& matrix, const std::vector<Index>& places);
Labels labels_at(const Labels& labels, const std::vector<Index>& places);

// Largest absolute difference over the largest absolute expected value; not a number where one of them is not.
double relative_error(const Matrix& found, const Matrix& expected);

}  // namespace fbkit
