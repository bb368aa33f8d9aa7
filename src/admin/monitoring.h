#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "http/message.h"

/// What the listener for monitoring answers: /metrics, /healthz, /readyz, and the status page.
/// Values in, values out.
namespace detour::admin {

struct Monitoring {
  /// What /metrics and the status page's data ask for as `Authorization: Bearer ...`; empty = no
  /// token, and then the page is for this machine alone (admin/page_access.h).
  std::string token;
  std::function<std::string()> render_metrics;
  /// What is wrong, or nothing: with the process, which a restart may mend ...
  std::function<std::optional<std::string>()> unhealthy;
  /// ... and with its readiness for clients, which goes away by itself.
  std::function<std::optional<std::string>()> unready;
  /// What the status page shows, for a query that the page made.
  std::function<http::Response(const http::Request& request)> answer_page_data;
};

/// The answer to any request, from a connection of `peer_ip`. The token is compared in constant
/// time.
[[nodiscard]] http::Response answer_monitoring(const http::Request& request,
                                               std::string_view peer_ip,
                                               const Monitoring& monitoring);

}  // namespace detour::admin
