#pragma once

#include <functional>

#include "base/log.h"
#include "config/command_line.h"

namespace detour::cli {

/// Reads the configuration again while a relay runs on it. Used by the main thread alone.
class Reloader {
 public:
  using ReadAgain = std::function<config::CommandLine()>;
  using Apply = std::function<void(const config::Config&)>;

  /// `log` must outlive the reloader. `read_again` reads the same command line with what the file
  /// and the environment say then.
  Reloader(config::Start running, ReadAgain read_again, Log& log);

  /// Logs each difference, and whether it takes effect now or needs a restart. Calls `apply` with
  /// what is to run from now on, also when nothing differs: files may have another content. A
  /// configuration that is not good is logged and changes nothing, and `apply` is not called.
  void reload(const Apply& apply);

 private:
  config::Start running_;
  ReadAgain read_again_;
  Log& log_;
};

}  // namespace detour::cli
