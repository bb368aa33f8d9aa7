#pragma once

#include "cli/subcommand.h"

namespace detour::cli {

/// `detour netcheck --map FILE`: latency of every region of a map over STUN and HTTPS, as clients
/// measure it.
///
/// Gives 0 when every region answers both, 1 when one does not, 2 when none does or the arguments
/// are wrong.
[[nodiscard]] int run_netcheck(const Call& call);

}  // namespace detour::cli
