// Whose bundle it is; docs/bundle.md#the-signature.
#pragma once

#include "files.h"

namespace fbkit {

// Check that a bundle's manifest was signed with the private half of a trusted public key, a file in PEM.
// Throws UserError if it was not.
void check_signature(const Bytes& manifest, const Path& bundle, const Path& trusted);

}  // namespace fbkit
