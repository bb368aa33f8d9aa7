#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "client/failure.h"
#include "net/address.h"

namespace detour::load {

/// The server under load: one address, and what it is called.
class Target {
 public:
  /// `127.0.0.1:443` or `[::1]:443`, without names. Fails for anything that is not an address and a
  /// port.
  [[nodiscard]] static client::Outcome<Target> parse(std::string_view text);
  /// As parse(), and fails for all but loopback addresses.
  [[nodiscard]] static client::Outcome<Target> parse_loopback(std::string_view text);

  /// What certificates must be for, and the Host header, where those are not the address.
  void set_names(std::string host, std::string host_header);
  /// The same address with another port.
  [[nodiscard]] Target with_port(std::uint16_t port) const;

  [[nodiscard]] int family() const { return address_.family(); }
  [[nodiscard]] bool is_loopback() const;
  /// Name, or address without brackets and port.
  [[nodiscard]] const std::string& host() const { return host_; }
  /// As in a Host header.
  [[nodiscard]] const std::string& host_and_port() const { return host_and_port_; }

  /// A non-blocking socket on its way to the target (stream) or connected to it (datagram); -1 and
  /// errno when that fails. To 127.0.0.0/8 the `index`th connection takes the `index`th source
  /// address, for one address has only some 28,000 ports and keeps each for a minute after use.
  [[nodiscard]] int connect(int socket_type, std::uint32_t index) const;

 private:
  Target() = default;
  net::SocketAddress address_;
  std::string host_;
  std::string host_and_port_;
};

}  // namespace detour::load
