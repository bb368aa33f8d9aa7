#pragma once

#include <string>
#include <vector>

#include "config/config.h"

namespace detour::cli {

/// What `serve --check` found.
struct CheckReport {
  std::vector<std::string> problems;  ///< It could not run, or not as meant.
  std::vector<std::string> notes;     ///< What was found to be right, or will be made.
};

/// Looks at everything that a relay with this configuration reads when it starts: its key, its
/// certificate, and every other file. Makes and changes nothing, and binds nothing.
[[nodiscard]] CheckReport check_files(const config::Config& config);

}  // namespace detour::cli
