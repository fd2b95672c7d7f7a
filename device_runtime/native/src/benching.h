// How fast a bundle opens, predicts and learns here: fbkit-device bench, with the result of fbkit bench device.
#pragma once

#include <string>

#include "looking.h"

namespace fbkit {

// pictures is a folder train/CLASS/PICTURE to learn from, and test/CLASS/PICTURE to be judged by; program is this one,
// to be started afresh. Throws UserError.
Json bench(const Path& bundle, const std::optional<Path>& signed_by, const Path& pictures, int turns,
           const std::string& program, const Progress& progress);

// In a fresh process: what it takes to be there, to open a bundle, to predict and to personalize. started is
// seconds_now of the one that started it.
Json bench_start(const Path& bundle, const Path& pictures, double started);
double seconds_now();

}  // namespace fbkit
