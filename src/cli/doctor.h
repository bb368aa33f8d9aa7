#pragma once

#include "cli/subcommand.h"

namespace detour::cli {

/// `detour doctor [URL]`: finds out why a relay does not work, and says what mends it. With a URL
/// or a map it looks at relays from outside; without one at this machine, its configuration and the
/// relay that runs here.
///
/// Gives 0 when all is fine, 1 with warnings, 2 with failures or when the arguments are wrong.
[[nodiscard]] int run_doctor(const Call& call);

}  // namespace detour::cli
