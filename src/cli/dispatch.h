#pragma once

#include <span>
#include <string>

namespace detour::cli {

/// Runs what the command line asks for: derper when the program is called by that name, else a
/// subcommand. `args` has the program's name first. Returns the exit status.
[[nodiscard]] int dispatch(std::span<const std::string> args);

}  // namespace detour::cli
