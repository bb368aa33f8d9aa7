#pragma once

#include <chrono>
#include <expected>
#include <optional>
#include <string>

#include "base/clock.h"
#include "net/address.h"
#include "net/fd.h"

namespace detour::net {

/// TCP options of a listening socket, which the kernel hands on to each accepted one, and of
/// connections that we make.
struct TcpOptions {
  Duration keepalive_idle = std::chrono::minutes(10);  ///< Zero: no keepalive probes.
  Duration keepalive_interval = std::chrono::seconds(15);
  int keepalive_probes = 9;
  Duration user_timeout = std::chrono::seconds(15);  ///< Zero leaves the kernel's.
  /// How many unsent bytes the kernel may hold before it calls the socket full: queueing belongs
  /// into our queues, where old packets can be dropped (design: bufferbloat).
  int not_sent_low_water = 64 * 1024;
  int backlog = 4096;
};

/// A non-blocking listening TCP socket. An IPv6 wildcard also takes IPv4; where the host has no
/// IPv6 the wildcard becomes IPv4's. Gives the errno text and the address on failure.
[[nodiscard]] std::expected<UniqueFd, std::string> listen_tcp(const SocketAddress& address,
                                                              const TcpOptions& options);

/// A non-blocking TCP socket whose connect() was begun: writable once that is over, and SO_ERROR
/// says how it went. Gives the errno text and the address when it failed at once. `options.backlog`
/// means nothing here.
[[nodiscard]] std::expected<UniqueFd, std::string> begin_connect_tcp(const SocketAddress& address,
                                                                     const TcpOptions& options);

/// A non-blocking UDP socket that tells which local address each datagram was sent to.
[[nodiscard]] std::expected<UniqueFd, std::string> bind_udp(const SocketAddress& address);

/// The smoothed round-trip time that the kernel has measured on a TCP connection; nothing when it
/// does not tell.
[[nodiscard]] std::optional<std::chrono::microseconds> tcp_round_trip_time(int fd);

/// The address that `fd` is bound to (after binding port 0).
[[nodiscard]] SocketAddress local_address(int fd);

}  // namespace detour::net
