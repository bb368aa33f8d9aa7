#include "bench/target.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>

namespace detour::bench {

namespace {

/// Connections leave from 127.0.0.2 and the addresses behind it, in turn.
constexpr std::uint32_t kSourceAddresses = 200;
constexpr std::uint32_t kFirstSource = 0x7f000002;

client::Outcome<std::uint16_t> parse_port(std::string_view text) {
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc{} || end != text.data() + text.size() || port == 0)
    return client::give_up(client::Layer::kAddress, fmt::format("'{}' is not a port", text));
  return port;
}

bool is_loopback(const in_addr& address) {
  return ntohl(address.s_addr) >> 24 == 127;
}

/// Gives the socket its source address; leaves the port to connect().
bool bind_source(int fd, std::uint32_t index) {
  const int on = 1;
  (void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
  sockaddr_in source{};
  source.sin_family = AF_INET;
  source.sin_addr.s_addr = htonl(kFirstSource + index % kSourceAddresses);
  return bind(fd, reinterpret_cast<const sockaddr*>(&source), sizeof source) == 0;
}

}  // namespace

client::Outcome<Target> Target::parse(std::string_view text) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos)
    return client::give_up(client::Layer::kAddress,
                           fmt::format("'{}' has no port: write 127.0.0.1:443", text));
  const auto port = parse_port(text.substr(colon + 1));
  if (!port) return std::unexpected(port.error());

  Target target;
  target.text_ = text;
  target.host_ = text.substr(0, colon);
  if (target.host_.starts_with('[') && target.host_.ends_with(']'))
    target.host_ = target.host_.substr(1, target.host_.size() - 2);

  sockaddr_in v4{};
  sockaddr_in6 v6{};
  if (inet_pton(AF_INET, target.host_.c_str(), &v4.sin_addr) == 1 && is_loopback(v4.sin_addr)) {
    v4.sin_family = AF_INET;
    v4.sin_port = htons(*port);
    std::memcpy(&target.storage_, &v4, sizeof v4);
    target.size_ = sizeof v4;
    return target;
  }
  if (inet_pton(AF_INET6, target.host_.c_str(), &v6.sin6_addr) == 1 &&
      std::memcmp(&v6.sin6_addr, &in6addr_loopback, sizeof in6addr_loopback) == 0) {
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(*port);
    std::memcpy(&target.storage_, &v6, sizeof v6);
    target.size_ = sizeof v6;
    return target;
  }
  return client::give_up(client::Layer::kAddress,
                         fmt::format("'{}' is not a loopback address, and nothing else is put "
                                     "under load",
                                     target.host_));
}

int Target::connect(int socket_type, std::uint32_t index) const {
  const int fd = socket(family(), socket_type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  const int on = 1;
  if (socket_type == SOCK_STREAM) (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  const bool bound = family() != AF_INET || bind_source(fd, index);
  if (bound && (::connect(fd, address(), size_) == 0 || errno == EINPROGRESS)) return fd;
  const int error = errno;
  ::close(fd);
  errno = error;
  return -1;
}

}  // namespace detour::bench
