#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "http/message.h"

/// What the listener for monitoring answers: /metrics, /healthz, /readyz. Values in, values out.
namespace detour::admin {

struct Monitoring {
  /// What /metrics asks for as `Authorization: Bearer ...`; empty = nothing.
  std::string token;
  std::function<std::string()> render_metrics;
  /// What is wrong, or nothing: with the process, which a restart may mend ...
  std::function<std::optional<std::string>()> unhealthy;
  /// ... and with its readiness for clients, which goes away by itself.
  std::function<std::optional<std::string>()> unready;
};

/// The answer to any request. The token is compared in constant time.
[[nodiscard]] http::Response answer_monitoring(const http::Request& request,
                                               const Monitoring& monitoring);

}  // namespace detour::admin
