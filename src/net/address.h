#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace detour::net {

/// An IP address and port. A value. IPv4-mapped IPv6 addresses are told apart by `unmapped()`.
class SocketAddress {
 public:
  SocketAddress() = default;
  /// From what accept(), recvmsg() or getsockname() filled in.
  static SocketAddress from(const sockaddr_storage& storage);
  /// From a literal; an empty `host` is the IPv6 wildcard. nullopt when `host` is not a literal.
  static std::optional<SocketAddress> parse(std::string_view host, std::uint16_t port);

  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage_); }
  [[nodiscard]] socklen_t size() const;
  [[nodiscard]] int family() const { return storage_.ss_family; }
  [[nodiscard]] std::uint16_t port() const;  ///< Host byte order.
  /// 16 bytes in network order, IPv4 as ::ffff:a.b.c.d: how peers are told of an address.
  [[nodiscard]] std::array<std::uint8_t, 16> mapped_bytes() const;
  /// The four bytes of an IPv4 or IPv4-mapped address.
  [[nodiscard]] std::optional<std::array<std::uint8_t, 4>> ipv4_bytes() const;

  /// Without port: "203.0.113.7", "2001:db8::1". IPv4-mapped addresses print as IPv4.
  [[nodiscard]] std::string ip_text() const;
  /// With port: "203.0.113.7:443", "[2001:db8::1]:443".
  [[nodiscard]] std::string text() const;

 private:
  sockaddr_storage storage_{};
};

}  // namespace detour::net
