#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>

#include "client/tls_stream.h"

namespace detour::doctor {

/// One node to look at, as a client would know it.
struct Target {
  std::string title;  ///< How the report calls it.
  std::string host;   ///< Name or IP literal without brackets: SNI, Host header, what to look up.
  std::uint16_t port = 443;
  bool use_tls = true;
  std::string cert_name = {};  ///< The name that the certificate must cover; empty: `host`.
  std::optional<client::Sha256> pin = std::nullopt;
  bool insecure = false;
  std::string authorities_file = {};  ///< PEM; empty: those of the system.
  /// From a map: an address, "none", or empty for what DNS says.
  std::string ipv4 = {};
  std::string ipv6 = {};
  std::optional<std::uint16_t> stun_port = 3478;          ///< Nullopt: no STUN there.
  std::optional<std::uint16_t> http_port = std::nullopt;  ///< Where generate_204 has to answer.
  bool relays = true;                                     ///< False: a node for STUN only.
  bool from_map = false;  ///< The map says what to expect; otherwise the command line.

  /// The name that the certificate must cover.
  [[nodiscard]] const std::string& expected_name() const {
    return cert_name.empty() ? host : cert_name;
  }
  [[nodiscard]] bool host_is_ip() const;
  /// What is sent as SNI: nothing for an address.
  [[nodiscard]] std::string server_name() const { return host_is_ip() ? std::string() : host; }
  /// For the Host header: IPv6 in brackets, the port only when it is not the usual one.
  [[nodiscard]] std::string host_header() const;
};

/// Understands `[https://]HOST[:PORT][/derp]` and `http://HOST[:PORT]`. Fails with what is wrong
/// and what to write instead.
[[nodiscard]] std::expected<Target, std::string> parse_target(std::string_view text);

}  // namespace detour::doctor
