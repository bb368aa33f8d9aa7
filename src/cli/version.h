#pragma once

#include <string_view>

namespace detour::cli {

/// The long version: `0.1.0`, or `0.1.0-t` and the commit when built from a git work tree. Read
/// when the build was configured.
[[nodiscard]] std::string_view version();

}  // namespace detour::cli
