#pragma once

#include "doctor/report.h"

namespace detour::cli {

/// Lines in colour on a terminal (unless NO_COLOR is set), plain ones elsewhere; what is being done
/// is shown on a terminal only.
[[nodiscard]] doctor::ReportOptions report_options(bool json);

}  // namespace detour::cli
