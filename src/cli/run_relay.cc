#include "cli/run_relay.h"

#include <fmt/format.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <optional>
#include <string>
#include <utility>

#include "cli/announce.h"
#include "cli/log_spdlog.h"
#include "cli/mesh_key.h"
#include "cli/served_map.h"
#include "config/command_line.h"
#include "server/heap_trimmer.h"
#include "server/relay.h"

namespace detour::cli {
namespace {

void announce(const config::Config& config, const Identity& identity, const server::Relay& relay,
              Log& log) {
  const auto http = relay.http_address();
  const auto stun = relay.stun_address();
  const Announcement announcement{
      .config = config,
      .certificate = identity.certificate ? &*identity.certificate : nullptr,
      .public_key = relay.public_key().typed(),
      .port = relay.address().port(),
      .http_port = http ? std::optional(http->port()) : std::nullopt,
      .stun_port = stun ? std::optional(stun->port()) : std::nullopt,
  };
  for (const auto& line : announcement_lines(announcement)) log.info(line);
  if (const auto metrics = relay.metrics_address())
    log.info(
        fmt::format("status page on http://{0}/, metrics on http://{0}/metrics", metrics->text()));
  if (const auto control = relay.control_socket(); !control.empty())
    log.info(fmt::format("control socket {}", control));
  // derper prints nothing on standard output, and what reads that of ours would be surprised.
  if (config.personality == config::Personality::kDerper) return;
  std::fputs(announcement_text(announcement).c_str(), stdout);
  std::fflush(stdout);
}

/// What came from a setec server is not asked for again: that may take half a minute.
server::Relay::MeshKeyReader mesh_key_reader(const config::Config& config) {
  if (!config.secrets_url.empty()) return {};
  return load_mesh_key;
}

void run_until_the_end(server::Relay& relay, const ServeSignals& signals, Reloader& reloader,
                       Log& log) {
  while (true) {
    const int signal = signals.wait();
    if (signal != SIGHUP) {
      log.info(fmt::format("{} received: ending", signal == SIGINT ? "SIGINT" : "SIGTERM"));
      return;
    }
    log.info("SIGHUP received: reloading");
    reloader.reload([&relay](const config::Config& changed) { relay.reload(changed); });
  }
}

}  // namespace

int run_relay(const config::Config& config, const Identity& identity, const ServeSignals& signals,
              Reloader& reloader, Log& log) {
  auto map = served_map(config);
  if (!map) {
    log_lines(log, LogLevel::kError, map.error());
    return config::kExitFatal;
  }
  auto relay =
      server::Relay::start({.config = config,
                            .key = identity.relay_key.key,
                            .mesh_key = identity.mesh_key,
                            .read_mesh_key = mesh_key_reader(config),
                            .certificate = identity.certificate ? &*identity.certificate : nullptr,
                            .map = std::move(*map),
                            .log = &log,
                            // The main thread waits for signals, and ends the relay by this one.
                            .on_drained = [] { ::kill(::getpid(), SIGTERM); }});
  if (!relay) {
    log_lines(log, LogLevel::kError, relay.error());
    return config::kExitFatal;
  }
  announce(config, identity, **relay, log);
  const server::HeapTrimmer trimmer([&relay] { (*relay)->release_spare_memory(); });
  run_until_the_end(**relay, signals, reloader, log);
  (*relay)->stop();
  return 0;
}

}  // namespace detour::cli
