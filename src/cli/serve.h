#pragma once

#include "cli/subcommand.h"

namespace detour::cli {

/// `detour serve`: runs the relay until SIGINT or SIGTERM.
[[nodiscard]] int run_serve(const Call& call);

/// The same under the name derper, with derper's flags. `call.args` are all arguments.
[[nodiscard]] int run_derper(const Call& call);

}  // namespace detour::cli
