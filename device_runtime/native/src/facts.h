// What a device is, and how it fares; the keys of fbkit bench device's result.
#pragma once

#include "fields.h"

namespace fbkit {

Json describe_device();
// Temperature, clock, load; null where the system does not tell.
Json observe();

// Bytes of this process: "VmRSS" now, "VmHWM" at its peak; null where the system does not tell.
Json memory_of_process(const std::string& name);

}  // namespace fbkit
