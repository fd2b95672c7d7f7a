// The digest that says which bundle a profile belongs to; docs/bundle.md#the-identity-digest.
#pragma once

#include <string>

#include "fields.h"

namespace fbkit {

// Of a manifest that was checked.
std::string identity_of(const Json& manifest);

// A float64 as Python's repr writes it: the shortest decimals that give it back.
std::string in_decimals(double value);

}  // namespace fbkit
