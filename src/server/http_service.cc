#include "server/http_service.h"

#include <chrono>

#include "server/shared.h"

namespace detour::server {

std::optional<DerpUpgrade> HttpService::derp_upgrade(const http::Request& request,
                                                     ListenerKind listener) const {
  if (listener != ListenerKind::kMain || !shared_.config.derp || request.path != "/derp")
    return std::nullopt;
  const auto upgrade = request.header("Upgrade");
  if (upgrade != "DERP" && upgrade != "derp") return std::nullopt;
  return DerpUpgrade{.fast_start = request.header("Derp-Fast-Start") == "1",
                     .is_not_ideal = !request.header("Ideal-Node").empty()};
}

http::Response HttpService::respond(const http::Request&, const net::SocketAddress&,
                                    ListenerKind) const {
  return http::text_error(404, "404");
}

std::int64_t HttpService::unix_seconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace detour::server
