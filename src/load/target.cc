#include "load/target.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <optional>
#include <utility>

namespace detour::load {

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
  target.host_and_port_ = text;
  target.host_ = text.substr(0, colon);
  if (target.host_.starts_with('[') && target.host_.ends_with(']'))
    target.host_ = target.host_.substr(1, target.host_.size() - 2);
  const auto address =
      target.host_.empty() ? std::nullopt : net::SocketAddress::parse(target.host_, *port);
  if (!address)
    return client::give_up(client::Layer::kAddress,
                           fmt::format("'{}' is not an IP address", target.host_));
  target.address_ = *address;
  return target;
}

client::Outcome<Target> Target::parse_loopback(std::string_view text) {
  auto target = parse(text);
  if (target && !target->is_loopback())
    return client::give_up(client::Layer::kAddress,
                           fmt::format("'{}' is not a loopback address: `detour bench` puts a "
                                       "measured load on other machines",
                                       target->host_));
  return target;
}

void Target::set_names(std::string host, std::string host_header) {
  host_ = std::move(host);
  host_and_port_ = std::move(host_header);
}

Target Target::with_port(std::uint16_t port) const {
  Target other = *this;
  other.address_ = net::SocketAddress::parse(address_.ip_text(), port).value_or(address_);
  return other;
}

bool Target::is_loopback() const {
  if (const auto v4 = address_.ipv4_bytes()) return (*v4)[0] == 127;
  return address_.ip_text() == "::1";
}

int Target::connect(int socket_type, std::uint32_t index) const {
  const int fd = socket(family(), socket_type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  const int on = 1;
  if (socket_type == SOCK_STREAM) (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  const bool bound = family() != AF_INET || !is_loopback() || bind_source(fd, index);
  if (bound && (::connect(fd, address_.get(), address_.size()) == 0 || errno == EINPROGRESS))
    return fd;
  const int error = errno;
  ::close(fd);
  errno = error;
  return -1;
}

}  // namespace detour::load
