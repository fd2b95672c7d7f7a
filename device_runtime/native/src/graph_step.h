// The SGD step by the bundle's own graph; docs/bundle.md#the-step-graph.
#pragma once

#include "manifest.h"
#include "program.h"
#include "sgd.h"

namespace fbkit {

class GraphStep {
 public:
  // data is the step graph's file. Throws UserError if it cannot be loaded.
  GraphStep(Bytes data, const Manifest& manifest);

  // A smaller batch is filled up with rows of weight zero, a smaller head with classes that are left out.
  // Throws UserError if the graph fails, or is too small or too old for what is asked.
  float operator()(SgdState& state, const Matrix& features, const Labels& labels, const StepSettings& settings);

  // Whether the graph takes batches and heads of this size, and what a recipe asks for beside plain SGD.
  bool takes(Index batch, Index classes, bool more_than_plain) const;

 private:
  std::string name_;
  int version_;
  Index rows_, classes_;
  Program program_;
};

}  // namespace fbkit
