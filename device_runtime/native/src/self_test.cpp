#include "self_test.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "errors.h"

namespace fbkit {
namespace {

constexpr double kStepLimit = 1e-5, kBatchLimit = 1e-5, kInt8BatchLimit = 0.02;

std::string in_short(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2g", value);
  return text;
}

// The larger, or what is not a number.
double larger(double one, double other) { return std::isnan(other) || other > one ? other : one; }

// Places in the probe: a batch of each size that the body was made for, repeated where it is too short.
std::vector<std::vector<Index>> batches(const Manifest& manifest, Index count) {
  std::vector<std::vector<Index>> all;
  for (const int size : manifest.body_batches) {
    std::vector<Index> places;
    for (Index place = 0; place < size; ++place) places.push_back(place % count);
    all.push_back(std::move(places));
  }
  return all;
}

// Two steps by the graph and by the formula; the second has a picture less and, in version 2, leaves the last class
// out, decays and has a penalty.
double step_error(const Bundle& bundle) {
  const Head& head = bundle.head();
  const Index classes = head.classes();
  const Matrix features =
      bundle.probe().features.topRows(std::min<Index>(bundle.probe().features.rows(), bundle.manifest().step_batch));
  Labels labels;
  for (Index row = 0; row < features.rows(); ++row) labels.push_back(row % (classes - 1));
  const Head anchor{head.weight.colwise().reverse(), head.bias.reverse()};
  StepSettings settings{0.01f, 0.9f, 0, 0, anchor, Mask(static_cast<std::size_t>(classes), true)};
  GraphStep graph = bundle.graph_step();
  SgdState here = sgd_start(head), there = here;
  const auto step_both = [&](Index rows) {
    const Matrix batch = features.topRows(rows);
    const Labels truth(labels.begin(), labels.begin() + rows);
    graph(here, batch, truth, settings);
    formula_step(there, batch, truth, settings);
  };
  step_both(features.rows());
  if (bundle.manifest().version > 1) {
    settings.weight_decay = 1;
    settings.penalty = 2;
    settings.kept.back() = false;
  }
  step_both(std::max<Index>(features.rows() - 1, 1));
  return larger(relative_error(here.head.weight, there.head.weight), relative_error(here.head.bias, there.head.bias));
}

}  // namespace

std::map<std::string, double> run_self_test(const Bundle& bundle,
                                            const std::function<void(const std::string&)>& announce) {
  const Manifest& manifest = bundle.manifest();
  const Probe& probe = bundle.probe();
  const std::string at = bundle.folder().string() + ": ";
  std::map<std::string, double> errors;
  const auto check = [&](const std::string& name, double error, double limit, const std::string& file) {
    errors[name] = errors.count(name) ? larger(errors[name], error) : error;
    if (error <= limit) return;  // not so for what is not a number
    std::string words = name;
    std::replace(words.begin(), words.end(), '_', ' ');
    throw UserError(at + file + ": the self-test fails on this machine: " + words + " " + in_short(error) +
                    " is above " + in_short(limit) +
                    "; do not use this bundle here, and check it on the machine that exported it");
  };
  announce(manifest.body);
  const Matrix inputs = normalise(probe.pictures, manifest.input);
  check("input_error", relative_error(inputs, probe.inputs), manifest.tolerance, manifest.probe);
  Matrix alone(inputs.rows(), manifest.features);
  for (Index row = 0; row < inputs.rows(); ++row) alone.row(row) = bundle.body().features(inputs.row(row));
  const auto all = batches(manifest, inputs.rows());
  for (const auto& places : all) {
    const Matrix features = bundle.body().features(rows_at(inputs, places));
    check("feature_error", relative_error(features, rows_at(probe.features, places)), manifest.tolerance,
          manifest.body);
    check("logit_error", relative_error(bundle.head().logits(features), rows_at(probe.logits, places)),
          manifest.tolerance, manifest.head);
    check("batch_error", relative_error(rows_at(alone, places), features),
          manifest.precision == "int8" ? kInt8BatchLimit : kBatchLimit, manifest.body);
  }
  announce(manifest.head_step);
  check("step_error", step_error(bundle), kStepLimit, manifest.head_step);
  if (!manifest.model.empty()) {
    announce(manifest.model);
    Body model = bundle.model();
    for (const auto& places : all) {
      check("model_error", relative_error(model.features(rows_at(inputs, places)), rows_at(probe.logits, places)),
            manifest.tolerance, manifest.model);
    }
  }
  return errors;
}

}  // namespace fbkit
