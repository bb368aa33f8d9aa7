#pragma once

#include <string>

#include "doctor/report.h"

namespace detour::cli {

/// Hands what `detour doctor` found to the relay behind a control socket, whose status page shows
/// it. A relay that cannot be asked, or that is too old to take it, goes without; so does one
/// without a socket (an empty path).
void hand_over(const doctor::Report& report, const std::string& socket);

}  // namespace detour::cli
