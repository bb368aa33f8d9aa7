#pragma once

#include <string>
#include <vector>

#include "config/config.h"

namespace detour::config {

struct Environment;

/// Where a relay's control socket is.
struct ControlSocket {
  std::string path;         ///< Empty = none.
  bool is_default = false;  ///< Nobody asked for this place.
};

/// Where a relay with this configuration puts it. "auto" is /run/detour/detour.sock where that
/// folder is there and may be written, or else detour.sock beside the key file.
[[nodiscard]] ControlSocket control_socket_of(const Config& config);

/// Where a relay of this machine may have put it, the likeliest first: what the environment says,
/// or else both default places.
[[nodiscard]] std::vector<std::string> control_socket_candidates(const Environment& environment);

}  // namespace detour::config
