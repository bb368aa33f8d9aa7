#pragma once

#include "metrics/exposition.h"

namespace detour::server {

/// What this process costs right now, read from /proc. Whatever cannot be read stays zero, for
/// example while descriptors have run out.
[[nodiscard]] metrics::ProcessUsage read_process_usage();

}  // namespace detour::server
