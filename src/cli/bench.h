#pragma once

#include "cli/subcommand.h"

namespace detour::cli {

/// `detour bench URL [--against URL]`: puts a bounded, announced load on one relay, or on two in
/// turn, and prints throughput, loss and latency.
///
/// Gives 0 when all is fine; 1 with warnings: loss, damage, a pace that could not be kept, an early
/// end; 2 when a relay cannot be used, nothing arrived, or the arguments are wrong.
[[nodiscard]] int run_bench(const Call& call);

}  // namespace detour::cli
