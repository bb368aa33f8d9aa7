#include "cli/run_relay.h"
#include "config/command_line.h"

namespace detour::cli {

int run_relay(const config::Config&, const Identity&, const ServeSignals&, Log& log) {
  log.error("everything is loaded, but this build has no relay to run");
  return config::kExitFatal;
}

}  // namespace detour::cli
