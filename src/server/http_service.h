#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>

#include "http/message.h"
#include "net/address.h"

namespace detour::server {

class Shared;

/// Which listening socket a connection came in by; decides what HTTP answers.
enum class ListenerKind : std::uint8_t {
  kMain,  ///< DERP: TLS, or plain HTTP where TLS is off.
  kHttp,  ///< The plain HTTP port beside TLS.
};

/// A request that turns its connection into a DERP stream.
struct DerpUpgrade {
  bool fast_start = false;    ///< The client waits for no HTTP answer.
  bool is_not_ideal = false;  ///< It sent a non-empty Ideal-Node header.
};

/// Answers HTTP requests from the relay's state. Safe to call from any worker.
class HttpService {
 public:
  explicit HttpService(Shared& shared) : shared_(shared) {}

  /// Whether `request` asks for DERP and may have it.
  [[nodiscard]] std::optional<DerpUpgrade> derp_upgrade(const http::Request& request,
                                                        ListenerKind listener) const;

  /// The answer to any other request.
  [[nodiscard]] http::Response respond(const http::Request& request, const net::SocketAddress& peer,
                                       ListenerKind listener) const;

  /// Seconds since 1970, for Date headers.
  [[nodiscard]] static std::int64_t unix_seconds();

 private:
  Shared& shared_;
};

}  // namespace detour::server
