#pragma once

#include "cli/subcommand.h"

namespace detour::cli {

/// `detour status`: what a running relay of this machine says of itself.
int run_status(const Call& call);
/// `detour top`: the same again and again, the busiest clients first.
int run_top(const Call& call);
/// `detour kick`: closes all connections of a client.
int run_kick(const Call& call);
/// `detour drain`: lets the clients go and ends the relay.
int run_drain(const Call& call);

}  // namespace detour::cli
