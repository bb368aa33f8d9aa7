#include "cli/terminal.h"

#include <unistd.h>

#include <algorithm>
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

std::span<const std::string> split_at_dashes(std::span<const std::string> args,
                                             std::vector<std::string>* behind) {
  const auto dashes = std::ranges::find(args, "--");
  if (dashes == args.end()) return args;
  behind->assign(dashes + 1, args.end());
  return args.first(static_cast<std::size_t>(dashes - args.begin()));
}

}  // namespace detour::cli
