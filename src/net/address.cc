#include "net/address.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <cstring>

namespace detour::net {

namespace {

constexpr std::array<std::uint8_t, 12> kMappedPrefix = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

const sockaddr_in& as_v4(const sockaddr_storage& storage) {
  return reinterpret_cast<const sockaddr_in&>(storage);
}
const sockaddr_in6& as_v6(const sockaddr_storage& storage) {
  return reinterpret_cast<const sockaddr_in6&>(storage);
}

}  // namespace

SocketAddress SocketAddress::from(const sockaddr_storage& storage) {
  SocketAddress address;
  address.storage_ = storage;
  return address;
}

std::optional<SocketAddress> SocketAddress::parse(std::string_view host, std::uint16_t port) {
  SocketAddress address;
  const std::string text(host);
  auto& v4 = reinterpret_cast<sockaddr_in&>(address.storage_);
  if (inet_pton(AF_INET, text.c_str(), &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    return address;
  }
  address.storage_ = {};
  auto& v6 = reinterpret_cast<sockaddr_in6&>(address.storage_);
  if (text.empty() || inet_pton(AF_INET6, text.c_str(), &v6.sin6_addr) == 1) {
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    return address;
  }
  return std::nullopt;
}

socklen_t SocketAddress::size() const {
  return family() == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
}

std::uint16_t SocketAddress::port() const {
  return ntohs(family() == AF_INET ? as_v4(storage_).sin_port : as_v6(storage_).sin6_port);
}

std::array<std::uint8_t, 16> SocketAddress::mapped_bytes() const {
  std::array<std::uint8_t, 16> bytes{};
  if (family() == AF_INET) {
    std::memcpy(bytes.data(), kMappedPrefix.data(), kMappedPrefix.size());
    std::memcpy(bytes.data() + kMappedPrefix.size(), &as_v4(storage_).sin_addr, 4);
  } else if (family() == AF_INET6) {
    std::memcpy(bytes.data(), &as_v6(storage_).sin6_addr, bytes.size());
  }
  return bytes;
}

std::optional<std::array<std::uint8_t, 4>> SocketAddress::ipv4_bytes() const {
  const auto bytes = mapped_bytes();
  if (std::memcmp(bytes.data(), kMappedPrefix.data(), kMappedPrefix.size()) != 0)
    return std::nullopt;
  return std::array<std::uint8_t, 4>{bytes[12], bytes[13], bytes[14], bytes[15]};
}

std::string SocketAddress::ip_text() const {
  char text[INET6_ADDRSTRLEN] = "";
  if (const auto v4 = ipv4_bytes()) {
    inet_ntop(AF_INET, v4->data(), text, sizeof text);
  } else if (family() == AF_INET6) {
    inet_ntop(AF_INET6, &as_v6(storage_).sin6_addr, text, sizeof text);
  }
  return text;
}

std::string SocketAddress::text() const {
  const std::string ip = ip_text();
  return ip.find(':') == std::string::npos ? fmt::format("{}:{}", ip, port())
                                           : fmt::format("[{}]:{}", ip, port());
}

}  // namespace detour::net
