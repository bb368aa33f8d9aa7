#pragma once

#include "cli/subcommand.h"
#include "client/round_trip.h"

namespace detour::cli {

/// `detour ping [https://]HOST[:PORT] [OTHER]`: two throw-away keys log in at a relay, or at two of
/// one region, and packets go both ways. Prints to standard output, failures to standard error.
///
/// Gives kExitFine when all packets arrived intact, kExitWarnings when only some did, and
/// kExitFailed when none did, the relay cannot be reached or the arguments are wrong.
[[nodiscard]] int run_ping(const Call& call);

/// The exit status that a measurement ends with.
[[nodiscard]] int ping_status(const client::RoundTrips& result);

}  // namespace detour::cli
