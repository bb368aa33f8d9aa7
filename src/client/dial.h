#pragma once

#include <cstdint>
#include <string>

#include "base/clock.h"
#include "client/failure.h"
#include "net/fd.h"

namespace detour::client {

/// A TCP connection: its socket, non-blocking and without Nagle's delay, and where it leads.
struct TcpConnection {
  net::UniqueFd fd;
  std::string address;  ///< "203.0.113.7:443", of the address that answered.
};

/// Looks `host` up (or takes it as a literal without brackets) and connects to the first of its
/// addresses that answers. Blocks until `deadline` at the latest; the look-up itself has the
/// system's own limits. `receive_buffer` of 0 leaves the kernel's size.
[[nodiscard]] Outcome<TcpConnection> dial_tcp(const std::string& host, std::uint16_t port,
                                              TimePoint deadline, int receive_buffer = 0);

/// Waits for `events` (POLLIN, POLLOUT) on `fd`. False when `deadline` came first.
[[nodiscard]] bool wait_for(int fd, short events, TimePoint deadline);

}  // namespace detour::client
