#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>

#include "config/config.h"

namespace detour::config {

/// An address as the operator wrote it, understood.
struct ParsedListenAddress {
  ListenAddress address;
  /// The port is 443, also when written `https`: derper's rule for TLS.
  bool port_is_https = false;
  /// One line that says what was understood, and what was repaired:
  /// `listen address "\":443\"" (flag -a): quotes removed, listening on all addresses, port 443`.
  std::string notice;
};

/// Understands `443`, `:443`, `https`, `203.0.113.7:443`, `[2001:db8::1]:443`, `localhost:8443`;
/// and repairs what people paste: quotes around it (ASCII and typographic), full-width characters,
/// spaces. An unspecified host (`0.0.0.0`, `[::]`, `*`) means all addresses of both families, as
/// in Go. `source` names where it was written, for the messages ("flag -a").
///
/// Fails with a message that has source, value and what to write instead.
[[nodiscard]] std::expected<ParsedListenAddress, std::string> parse_listen_address(
    std::string_view text, std::string_view source);

/// `203.0.113.7:443`, `[2001:db8::1]:443`, `:443` for all addresses.
[[nodiscard]] std::string to_text(const ListenAddress& address);

/// The IP address in `text` in its usual spelling, without brackets; nullopt when it is not one.
[[nodiscard]] std::optional<std::string> parse_ip(std::string_view text);
[[nodiscard]] bool is_ip(std::string_view text);
[[nodiscard]] bool is_ipv6(std::string_view text);

/// Checks `203.0.113.0/24` or `2001:db8::/32`.
[[nodiscard]] bool is_cidr(std::string_view text);

/// The host name in lower case, or the IP address in its usual spelling without brackets.
///
/// Fails with a message that has source, value and the exact thing to write instead for what
/// people paste: `https://`, a slash or dot behind it, a port, quotes, spaces, a wildcard.
[[nodiscard]] std::expected<std::string, std::string> parse_hostname(std::string_view text,
                                                                     std::string_view source);

}  // namespace detour::config
