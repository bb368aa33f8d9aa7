#pragma once

#include "cli/subcommand.h"

namespace detour::cli {

/// `detour ping [https://]HOST[:PORT] [OTHER]`: two throw-away keys log in at a relay, or at two of
/// one region, and packets go both ways. Prints to standard output, failures to standard error.
///
/// Gives 0 when all packets arrived intact, 1 when one did not or the relay cannot be reached, and
/// 2 when the arguments are wrong.
[[nodiscard]] int run_ping(const Call& call);

}  // namespace detour::cli
