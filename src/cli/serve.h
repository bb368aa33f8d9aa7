#pragma once

#include "cli/subcommand.h"

namespace detour::cli {

/// `detour serve`: reads the options and runs the relay until SIGINT or SIGTERM; or with --check
/// only looks whether it could.
[[nodiscard]] int run_serve(const Call& call);

/// `detour config`: the settings that `detour serve` would have with the same options.
[[nodiscard]] int run_config(const Call& call);

/// The same as `serve` under the name derper, with derper's flags.
[[nodiscard]] int run_derper(const Call& call);

}  // namespace detour::cli
