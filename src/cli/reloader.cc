#include "cli/reloader.h"

#include <fmt/format.h>

#include <string_view>
#include <utility>

#include "cli/log_spdlog.h"

namespace detour::cli {

Reloader::Reloader(config::Start running, ReadAgain read_again, Log& log)
    : running_(std::move(running)), read_again_(std::move(read_again)), log_(log) {}

void Reloader::reload(const Apply& apply) {
  const auto read = read_again_();
  if (!read) {
    log_lines(log_, LogLevel::kError, read.error().err);
    log_.error("reload: nothing was changed, since the configuration is not good");
    return;
  }
  for (const auto& warning : read->warnings) log_.warn(warning);
  const auto changes = config::changes_between(running_, *read);
  for (const auto& [name, before, after, reloadable] : changes) {
    const auto line = fmt::format("reload: {} was \"{}\" and is \"{}\"", name, before, after);
    if (reloadable)
      log_.info(line);
    else
      log_.warn(fmt::format("{} now: that needs a restart, until then it stays as it was", line));
  }
  if (changes.empty()) log_.info("reload: no setting differs; files are read again");
  running_ = config::with_reloadable(running_, *read);
  apply(running_.config);
}

}  // namespace detour::cli
