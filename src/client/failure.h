#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace detour::client {

/// Which part of "reach a relay and log in" did not work. Operators mend these in different places.
enum class Layer : std::uint8_t {
  kAddress,  ///< The name does not resolve, or the address is not one.
  kTcp,      ///< No connection: refused, unreachable, filtered.
  kTls,      ///< Handshake, certificate or pin.
  kHttp,     ///< The answer to the upgrade request is not "101 Switching Protocols".
  kLogin,    ///< ServerKey or ServerInfo missing or wrong: usually the relay refused the key.
  kRelay,    ///< Logged in, and broken later.
};

/// What exactly is wrong with TLS, where the mending depends on it.
enum class TlsProblem : std::uint8_t {
  kNone,           ///< Not a problem of TLS, or one that only its message describes.
  kNotTls,         ///< The other side answers in another protocol.
  kRefused,        ///< The other side ended the handshake with an alert.
  kSelfSigned,     ///< A certificate that vouches for itself, and no pin was given.
  kUnknownIssuer,  ///< The chain does not lead to a known authority.
  kExpired,        ///< Or not valid yet.
  kWrongName,      ///< The certificate covers other names.
  kWrongPin,       ///< Another certificate than the pinned one, or more than one.
};

/// "TCP", "TLS", ...: the word that messages begin with.
[[nodiscard]] std::string_view layer_name(Layer layer);

/// Why the client gave up. Owns its text, since it is made once per connection at most.
struct Failure {
  Layer layer;
  std::string message;       ///< One English clause without a full stop.
  unsigned http_status = 0;  ///< Of the answer to the upgrade request, when there was one.
  int system_error = 0;      ///< errno of the call that failed, when there was one.
  bool timed_out = false;
  TlsProblem tls_problem = TlsProblem::kNone;
  std::string certificate_pin = {};  ///< Of a certificate that was not trusted: "sha256-raw:...".

  /// "TLS: certificate has expired".
  [[nodiscard]] std::string text() const;
};

template <typename T>
using Outcome = std::expected<T, Failure>;

/// `return give_up(Layer::kHttp, "...");` in a function that returns any Outcome.
[[nodiscard]] inline std::unexpected<Failure> give_up(Layer layer, std::string message) {
  return std::unexpected(Failure{.layer = layer, .message = std::move(message)});
}

}  // namespace detour::client
