#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>

namespace detour::server {

/// Where a CONNECT request leads.
struct ConnectTarget {
  std::string host;  ///< A DNS name.
  std::uint16_t port = 0;
};

/// Understands the target of a CONNECT request: `controlplane.tailscale.com:443`. Gives in words
/// why it may not be dialled.
///
/// The rules are those of derper's -ace: port 443 or 80 of a host of tailscale.com that is no DERP
/// server. Beyond them the host has to be a DNS name: derper takes `[::1%25.tailscale.com]:80` for
/// one too and connects to its own machine.
[[nodiscard]] std::expected<ConnectTarget, std::string_view> parse_connect_target(
    std::string_view target);

}  // namespace detour::server
