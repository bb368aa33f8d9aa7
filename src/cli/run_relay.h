#pragma once

#include <optional>

#include "acme/certificate.h"
#include "base/log.h"
#include "cli/relay_key.h"
#include "cli/reloader.h"
#include "cli/signals.h"
#include "config/config.h"

namespace detour::cli {

/// What is loaded from files before anything is bound.
struct Identity {
  LoadedKey relay_key;
  crypto::MeshKey mesh_key{};
  std::optional<acme::ServerCertificate> certificate;
};

/// Starts the relay, says what it serves, and runs it until SIGINT or SIGTERM; on SIGHUP reloads
/// its configuration. Returns the exit status.
[[nodiscard]] int run_relay(const config::Config& config, const Identity& identity,
                            const ServeSignals& signals, Reloader& reloader, Log& log);

}  // namespace detour::cli
