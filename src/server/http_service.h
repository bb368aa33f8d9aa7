#pragma once

#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <string>

#include "admin/routes.h"
#include "config/config.h"
#include "http/message.h"
#include "metrics/exposition.h"
#include "net/address.h"

namespace detour::server {

class Shared;

/// Which listening socket a connection came in by; decides what HTTP answers.
enum class ListenerKind : std::uint8_t {
  kMain,  ///< DERP: TLS, or plain HTTP where TLS is off.
  kHttp,  ///< The plain HTTP port beside TLS.
};

/// Answers HTTP requests from the relay's state. Immutable; safe to call from any worker.
class HttpService {
 public:
  struct Caller {
    net::SocketAddress address;
    bool forwarded = false;  ///< By X-Forwarded-For; the port is unknown then and 0.
  };

  /// Reads the debug key file. Fails, with a text for the operator, when it cannot be read.
  [[nodiscard]] static std::expected<std::unique_ptr<HttpService>, std::string> make(
      Shared& shared, admin::MapPage map);

  /// Whether `request` asks for DERP and may have it.
  [[nodiscard]] std::optional<admin::DerpUpgrade> derp_upgrade(const http::Request& request,
                                                               ListenerKind listener) const;

  /// Whether `request` asks for a page that takes time, and may have it.
  [[nodiscard]] std::optional<admin::SlowPage> slow_page(const http::Request& request,
                                                         const Caller& caller,
                                                         ListenerKind listener) const;

  /// The answer to any other request.
  [[nodiscard]] http::Response respond(const http::Request& request, const Caller& caller,
                                       ListenerKind listener) const;

  /// Who sent a request that came by a connection from `peer`: who a trusted proxy says, or `peer`.
  [[nodiscard]] Caller caller(const http::Request& request, const net::SocketAddress& peer) const;

  /// What the metrics pages show.
  [[nodiscard]] metrics::Snapshot snapshot() const;

  /// Host name of the machine.
  [[nodiscard]] const std::string& machine() const { return site_.machine; }

  /// Seconds since 1970, for Date headers.
  [[nodiscard]] static std::int64_t unix_seconds();

 private:
  explicit HttpService(Shared& shared) : shared_(shared) {}
  [[nodiscard]] std::string find_inconsistencies() const;
  [[nodiscard]] admin::Listener admin_listener(ListenerKind listener) const;

  Shared& shared_;
  admin::Site site_;
  std::uint64_t memory_at_start_bytes_ = 0;
};

}  // namespace detour::server
