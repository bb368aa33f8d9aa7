#pragma once

#include "cli/subcommand.h"

namespace detour::cli {

/// `detour map`: writes a DERP map, of the relay on this machine, of what the options say or of
/// several files together, for a policy file or Headscale; or checks one.
///
/// Gives 0 when all is fine, 1 with warnings, 2 with failures or when the arguments are wrong. The
/// map goes to standard output, what is said about it to standard error.
[[nodiscard]] int run_map(const Call& call);

}  // namespace detour::cli
