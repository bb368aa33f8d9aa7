#pragma once

#include <span>
#include <string>
#include <vector>

#include "doctor/report.h"

namespace detour::cli {

/// Lines in colour on a terminal (unless NO_COLOR is set), plain ones elsewhere; what is being done
/// is shown on a terminal only.
[[nodiscard]] doctor::ReportOptions report_options(bool json);

/// The arguments before a `--`; those behind it go to `*behind`.
[[nodiscard]] std::span<const std::string> split_at_dashes(std::span<const std::string> args,
                                                           std::vector<std::string>* behind);

}  // namespace detour::cli
