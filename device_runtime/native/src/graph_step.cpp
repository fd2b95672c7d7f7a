#include "graph_step.h"

#include <algorithm>

#include "errors.h"

namespace fbkit {
namespace {

Matrix filled(const Matrix& matrix, Index rows) {
  Matrix out = Matrix::Zero(rows, matrix.cols());
  out.topRows(matrix.rows()) = matrix;
  return out;
}

Vector filled(const Vector& vector, Index size) {
  Vector out = Vector::Zero(size);
  out.head(vector.size()) = vector;
  return out;
}

Input view(const Matrix& matrix) {
  return {{static_cast<int>(matrix.rows()), static_cast<int>(matrix.cols())}, matrix.data()};
}

Input view(const Vector& vector) { return {{static_cast<int>(vector.size())}, vector.data()}; }

Input view(const float& scalar) { return {{1}, &scalar}; }

}  // namespace

GraphStep::GraphStep(Bytes data, const Manifest& manifest)
    : name_(manifest.head_step),
      version_(manifest.version),
      rows_(manifest.step_batch),
      classes_(manifest.step_classes),
      program_(std::move(data), manifest.head_step) {}

bool GraphStep::takes(Index batch, Index classes, bool more_than_plain) const {
  return batch <= rows_ && (version_ > 1 ? classes <= classes_ : classes == classes_ && !more_than_plain);
}

float GraphStep::operator()(SgdState& state, const Matrix& features, const Labels& labels,
                            const StepSettings& settings) {
  const Index count = features.rows(), classes = state.head.classes();
  const bool leaves_out = std::count(settings.kept.begin(), settings.kept.end(), false);
  if (!takes(count, classes, leaves_out || settings.weight_decay != 0 || settings.penalty != 0)) {
    throw UserError(name_ +
                    " does not take this many pictures or classes, or what the recipe asks for; use --step formula");
  }
  const Matrix x = filled(features, rows_), weight = filled(state.head.weight, classes_),
               weight_buffer = filled(state.buffers.weight, classes_),
               anchor = filled(settings.anchor.weight, classes_);
  const Vector bias = filled(state.head.bias, classes_), bias_buffer = filled(state.buffers.bias, classes_),
               anchor_bias = filled(settings.anchor.bias, classes_),
               row_weights = filled(Vector(Vector::Ones(count)), rows_);
  Labels y = labels;
  y.resize(static_cast<std::size_t>(rows_), 0);
  Vector mask = Vector::Zero(classes_);
  for (std::size_t label = 0; label < settings.kept.size(); ++label) {
    mask[static_cast<Index>(label)] = settings.kept[label] ? 1.0f : 0.0f;
  }
  std::vector<Input> inputs = {view(x), {{static_cast<int>(rows_)}, nullptr, y.data()}, view(row_weights)};
  const auto add = [&](std::initializer_list<Input> more) { inputs.insert(inputs.end(), more); };
  if (version_ > 1) add({view(mask)});
  add({view(weight), view(bias), view(weight_buffer), view(bias_buffer)});
  if (version_ > 1) add({view(anchor), view(anchor_bias)});
  add({view(settings.lr), view(settings.momentum)});
  if (version_ > 1) add({view(settings.weight_decay), view(settings.penalty)});

  const auto outputs = program_.run("forward", inputs);
  const std::vector<int> matrix = view(weight).shape, vector = view(bias).shape;
  const std::vector<std::vector<int>> expected = {{1}, matrix, vector, matrix, vector};
  bool as_expected = outputs.size() == expected.size();
  for (std::size_t place = 0; as_expected && place < expected.size(); ++place) {
    as_expected = outputs[place].shape == expected[place];
  }
  if (!as_expected) throw UserError(name_ + ": gives something else than docs/bundle.md says");
  const auto as_matrix = [&](const Output& out) {
    return Eigen::Map<const Matrix>(out.values.data(), classes, x.cols());
  };
  const auto as_vector = [&](const Output& out) { return Eigen::Map<const Vector>(out.values.data(), classes); };
  state.head = {as_matrix(outputs[1]), as_vector(outputs[2])};
  state.buffers = {as_matrix(outputs[3]), as_vector(outputs[4])};
  return outputs[0].values[0];
}

}  // namespace fbkit
