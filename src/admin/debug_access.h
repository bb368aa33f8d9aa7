#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "http/message.h"

/// Who may read the pages below /debug/ (docs/operations.md).
namespace detour::admin {

/// An IP address as 16 bytes, IPv4 as ::ffff:a.b.c.d.
using IpBytes = std::array<std::uint8_t, 16>;

/// An IPv4 or IPv6 literal; a zone (`%eth0`) is left out. Nothing for anything else.
[[nodiscard]] std::optional<IpBytes> parse_ip(std::string_view text);

/// 127.0.0.0/8 and ::1.
[[nodiscard]] bool is_loopback(const IpBytes& ip);

/// The addresses whose first `bits` bits (0 to 128) are those of `base`.
struct IpPrefix {
  IpBytes base;
  unsigned bits;

  [[nodiscard]] bool contains(const IpBytes& ip) const;
  friend bool operator==(const IpPrefix&, const IpPrefix&) = default;
};

/// `10.0.0.0/8`, `2001:db8::/32`. Nothing when the text is not of that form; bits of the address
/// beyond the prefix are ignored.
[[nodiscard]] std::optional<IpPrefix> parse_ip_prefix(std::string_view text);

/// The settings of the access rule. Empty ones allow nobody.
struct DebugAccess {
  std::string debug_key;  ///< What `?debugkey=` must say, without white space around it.
  std::string allow_ip;   ///< Compared as text.
  std::vector<IpPrefix> trusted;

  /// Whether this caller may. `peer_ip` is the address of the connection, as text.
  ///
  /// A GET with the right key always may. Otherwise callers through a proxy may not, and Tailscale
  /// addresses, loopback and the addresses set here may.
  /// `forwarded` says that `peer_ip` is what a trusted proxy told of its caller: then it counts.
  [[nodiscard]] bool allows(const http::Request& request, std::string_view peer_ip,
                            bool forwarded = false) const;
};

}  // namespace detour::admin
