#pragma once

#include <functional>
#include <string>

#include "http/message.h"

namespace detour::admin {

/// The DERP map that the relay serves, for Headscale's derp.urls. Off without a path.
struct MapPage {
  std::string path;   ///< "/derpmap.json".
  std::string token;  ///< What callers must bring; empty: nothing.
  /// The map as JSON, on the thread that asks. Must be set when there is a path.
  std::function<std::string()> render;

  /// Whether this request is for the map.
  [[nodiscard]] bool takes(const http::Request& request) const {
    return !path.empty() && request.path == path;
  }
};

/// The map, for GET and HEAD; 403 without the token, which is given as `Authorization: Bearer
/// TOKEN` or, where only a URL can be given, as `?token=TOKEN`.
[[nodiscard]] http::Response answer_map(const http::Request& request, const MapPage& page);

}  // namespace detour::admin
