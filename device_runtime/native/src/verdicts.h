// Which bundles this machine has found good, so that each is tried once: a file for each in the user's own cache.
#pragma once

#include <string>

namespace fbkit {

// digest: SHA-256 of a bundle's manifest.json. A verdict holds for these bytes, this program and this processor.
bool is_known_good(const std::string& digest);

// Where that cannot be written it will be tried again.
void remember_good(const std::string& digest);

}  // namespace fbkit
