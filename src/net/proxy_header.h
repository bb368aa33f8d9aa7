#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "base/result.h"
#include "net/address.h"

/// The PROXY protocol, versions 1 and 2: what a proxy in front says of the connection that it
/// passes on (haproxy.org, proxy-protocol.txt). No I/O.
namespace detour::net {

/// A longer header is refused: far beyond the addresses and the notes (TLVs) that proxies add.
inline constexpr std::size_t kProxyHeaderMax = 4096;
/// A header of version 1, its end of line included.
inline constexpr std::size_t kProxyLineMax = 107;

struct ProxyHeader {
  /// Who connected to the proxy. Absent when the proxy speaks for itself (a health check) or does
  /// not know: the connection's own address counts then.
  std::optional<SocketAddress> source;
  std::size_t size = 0;  ///< Bytes of the header; what the client sent comes behind.
};

/// Reads the header at the front of `bytes`. Gives nullopt until it is whole; the caller reads more
/// and calls again with all of it. Fails with kProxyHeaderMissing when these bytes begin something
/// else, and with kProxyHeaderInvalid. Both are known as soon as a byte tells.
[[nodiscard]] Result<std::optional<ProxyHeader>> parse_proxy_header(
    std::span<const std::uint8_t> bytes);

/// Whether `bytes` begin like a header of either version; for messages about one that nobody asked
/// for.
[[nodiscard]] bool looks_like_proxy_header(std::span<const std::uint8_t> bytes);

}  // namespace detour::net
