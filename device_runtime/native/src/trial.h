// The trial: a bundle that this machine does not know yet runs first in a process of its own, within limits.
//
// ExecuTorch expects files that its own tools wrote. Others can crash it, keep it busy for ever, or make it ask for all
// memory. In the trial that ends a child, and the caller hears in one line which file did it.
#pragma once

#include "bundle.h"

namespace fbkit {

// This process must have started no threads. Throws UserError if the bundle is not good, or there can be no trial.
void run_trial(const Contents& contents);

}  // namespace fbkit
