// Does this machine compute from the probe's pictures what the exporting machine computed? docs/bundle.md#the-self-test
#pragma once

#include <functional>
#include <map>
#include <string>

#include "bundle.h"

namespace fbkit {

// Runs everything in an open bundle. Returns the largest differences by name; announce hears which file is run next.
// Throws UserError if one is above its limit.
std::map<std::string, double> run_self_test(const Bundle& bundle,
                                            const std::function<void(const std::string&)>& announce);

}  // namespace fbkit
