#include "cli/terminal.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace detour::cli {

doctor::ReportOptions report_options(bool json) {
  const char* no_colour = std::getenv("NO_COLOR");
  const char* terminal = std::getenv("TERM");
  const bool plain = (no_colour != nullptr && *no_colour != '\0') ||
                     (terminal != nullptr && std::string_view(terminal) == "dumb");
  return {.json = json,
          .colour = !plain && isatty(STDOUT_FILENO) == 1,
          .out = stdout,
          .progress = isatty(STDERR_FILENO) == 1 ? stderr : nullptr};
}

}  // namespace detour::cli
