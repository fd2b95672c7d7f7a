#include "head.h"

#include "safetensors.h"

namespace fbkit {

Matrix Head::logits(const Matrix& features) const {
  Matrix out = features * weight.transpose();
  out.rowwise() += bias;
  return out;
}

Matrix Head::probabilities(const Matrix& features) const {
  Matrix out = logits(features);
  for (auto row : out.rowwise()) {
    row = (row.array() - row.maxCoeff()).exp();
    row /= row.sum();
  }
  return out;
}

VectorD Head::losses(const Matrix& features, const Labels& labels) const {
  const MatrixD found = logits(features).cast<double>();
  VectorD losses(found.rows());
  for (Index row = 0; row < found.rows(); ++row) {
    const double largest = found.row(row).maxCoeff();
    const double normaliser = std::log((found.row(row).array() - largest).exp().sum()) + largest;
    losses[row] = normaliser - found(row, labels[static_cast<std::size_t>(row)]);
  }
  return losses;
}

double Head::loss(const Matrix& features, const Labels& labels) const { return losses(features, labels).mean(); }

double Head::accuracy(const Matrix& features, const Labels& labels) const {
  const Matrix found = logits(features);
  Index right = 0, place = 0;
  for (Index row = 0; row < found.rows(); ++row) {
    found.row(row).maxCoeff(&place);
    right += place == labels[static_cast<std::size_t>(row)];
  }
  return 100.0 * static_cast<double>(right) / static_cast<double>(found.rows());
}

Head Head::with_only(const Mask& kept) const {
  Head head = *this;
  for (Index row = 0; row < classes(); ++row) {
    if (!kept[static_cast<std::size_t>(row)]) head.bias[row] = kNoChance;
  }
  return head;
}

Head Head::grown(const Mask& chances) const {
  const Index own = classes(), all = static_cast<Index>(chances.size());
  Head head{Matrix(all, weight.cols()), Vector(all)};
  head.weight << weight, weight.colwise().mean().replicate(all - own, 1);
  head.bias.head(own) = bias;
  for (Index row = own; row < all; ++row) {
    head.bias[row] = chances[static_cast<std::size_t>(row)] ? bias.mean() : kNoChance;
  }
  return head;
}

bool Head::is_finite() const { return weight.allFinite() && bias.allFinite(); }

Bytes Head::to_bytes() const {
  return pack_tensors({
      {"weight", stored("F32", {weight.rows(), weight.cols()}, weight.data())},
      {"bias", stored("F32", {bias.size()}, bias.data())},
  });
}

Head head_from_bytes(const Bytes& data, Index classes, Index features, const std::string& origin) {
  const auto tensors =
      unpack_tensors(data, {{"weight", {"F32", {classes, features}}}, {"bias", {"F32", {classes}}}}, origin);
  Head head{Matrix(classes, features), Vector(classes)};
  tensors.at("weight").copy_to(head.weight.data());
  tensors.at("bias").copy_to(head.bias.data());
  return head;
}

}  // namespace fbkit
