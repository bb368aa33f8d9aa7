#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "doctor/report.h"

namespace detour::cli {

/// Lines in colour on a terminal (unless NO_COLOR is set), plain ones elsewhere; what is being done
/// is shown on a terminal only.
[[nodiscard]] doctor::ReportOptions report_options(bool json);

/// ANSI colours of states: what is fine, what needs a look, what failed.
enum class Colour : std::uint8_t { kGreen, kYellow, kRed };
/// The text in that colour where report_options() has colours, else as it is.
[[nodiscard]] std::string coloured(std::string_view text, Colour colour);

/// Says on standard error what is being done, if that is a terminal: replaces what it said before.
void show_progress(std::string_view doing);
/// Takes away what show_progress() said.
void clear_progress();

/// From now on the Ctrl-C behind the first `patience` ones takes the line of progress away and ends
/// the program with status 130. Those before are only told by interrupted().
void end_on_interrupt(int patience = 0);
/// Whether Ctrl-C came since end_on_interrupt().
[[nodiscard]] bool interrupted();

}  // namespace detour::cli
