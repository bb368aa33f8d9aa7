#include "net/socket.h"

#include <fmt/format.h>
#include <netinet/tcp.h>

#include <cerrno>
#include <cstring>

namespace detour::net {

namespace {

using std::chrono::duration_cast;
using std::chrono::milliseconds;
using std::chrono::seconds;

std::unexpected<std::string> failed(std::string_view action, const SocketAddress& address,
                                    std::string_view protocol) {
  const int error = errno;
  std::string hint;
  if (error == EADDRINUSE)
    hint = fmt::format(
        ": another program holds this port (see `ss -lnp | grep :{}`); stop it or choose another",
        address.port());
  if (error == EACCES)
    hint =
        ": ports below 1024 need root or CAP_NET_BIND_SERVICE (systemd: "
        "AmbientCapabilities=CAP_NET_BIND_SERVICE)";
  if (error == EADDRNOTAVAIL) hint = ": this machine has no such address (see `ip address`)";
  return std::unexpected(fmt::format("cannot {} {} {}: {}{}", action, protocol, address.text(),
                                     std::strerror(error), hint));
}

void set_option(int fd, int level, int name, int value) {
  // Options are a matter of quality; a kernel without one still relays.
  static_cast<void>(::setsockopt(fd, level, name, &value, sizeof value));
}

void set_options(int fd, const TcpOptions& options) {
  set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  const bool keepalive = options.keepalive_idle != Duration::zero();
  set_option(fd, SOL_SOCKET, SO_KEEPALIVE, keepalive ? 1 : 0);
  if (keepalive) {
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE,
               static_cast<int>(duration_cast<seconds>(options.keepalive_idle).count()));
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL,
               static_cast<int>(duration_cast<seconds>(options.keepalive_interval).count()));
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, options.keepalive_probes);
  }
  if (options.user_timeout != Duration::zero())
    set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT,
               static_cast<int>(duration_cast<milliseconds>(options.user_timeout).count()));
  set_option(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, options.not_sent_low_water);
}

bool is_wildcard_v6(const SocketAddress& address) {
  return address.family() == AF_INET6 && address.mapped_bytes() == std::array<std::uint8_t, 16>{};
}

/// A socket for `address`; falls back to IPv4 for the wildcard where IPv6 is switched off.
UniqueFd open_socket(SocketAddress& address, int type) {
  UniqueFd fd(::socket(address.family(), type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd && errno == EAFNOSUPPORT && is_wildcard_v6(address)) {
    address = *SocketAddress::parse("0.0.0.0", address.port());
    fd = UniqueFd(::socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  }
  if (fd && is_wildcard_v6(address)) set_option(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, 0);
  return fd;
}

bool bind_socket(UniqueFd& fd, SocketAddress& address, int type) {
  set_option(fd.get(), SOL_SOCKET, SO_REUSEADDR, type == SOCK_STREAM ? 1 : 0);
  if (::bind(fd.get(), address.get(), address.size()) == 0) return true;
  if (errno != EADDRNOTAVAIL || !is_wildcard_v6(address)) return false;
  // IPv6 exists but is disabled on all interfaces.
  address = *SocketAddress::parse("0.0.0.0", address.port());
  fd = open_socket(address, type);
  if (!fd) return false;
  set_option(fd.get(), SOL_SOCKET, SO_REUSEADDR, type == SOCK_STREAM ? 1 : 0);
  return ::bind(fd.get(), address.get(), address.size()) == 0;
}

}  // namespace

std::expected<UniqueFd, std::string> listen_tcp(const SocketAddress& wanted,
                                                const TcpOptions& options) {
  SocketAddress address = wanted;
  UniqueFd fd = open_socket(address, SOCK_STREAM);
  if (!fd) return failed("open", address, "TCP");
  if (!bind_socket(fd, address, SOCK_STREAM)) return failed("listen on", address, "TCP");

  set_options(fd.get(), options);
  if (::listen(fd.get(), options.backlog) != 0) return failed("listen on", address, "TCP");
  return fd;
}

std::expected<UniqueFd, std::string> begin_connect_tcp(const SocketAddress& address,
                                                       const TcpOptions& options) {
  UniqueFd fd(::socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const auto refuse = [&](std::string_view action) {
    return std::unexpected(
        fmt::format("cannot {} {}: {}", action, address.text(), std::strerror(errno)));
  };
  if (!fd) return refuse("open a socket for");
  set_options(fd.get(), options);
  if (::connect(fd.get(), address.get(), address.size()) != 0 && errno != EINPROGRESS)
    return refuse("connect to");
  return fd;
}

std::expected<UniqueFd, std::string> bind_udp(const SocketAddress& wanted) {
  SocketAddress address = wanted;
  UniqueFd fd = open_socket(address, SOCK_DGRAM);
  if (!fd) return failed("open", address, "UDP");
  if (!bind_socket(fd, address, SOCK_DGRAM)) return failed("bind", address, "UDP");
  if (address.family() == AF_INET6) {
    set_option(fd.get(), IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
  } else {
    set_option(fd.get(), IPPROTO_IP, IP_PKTINFO, 1);
  }
  // A burst of requests after an outage must not be lost before we get to it.
  constexpr int kReceiveBuffer = 1 << 20;
  set_option(fd.get(), SOL_SOCKET, SO_RCVBUF, kReceiveBuffer);
  return fd;
}

std::optional<std::chrono::microseconds> tcp_round_trip_time(int fd) {
  tcp_info info{};
  socklen_t size = sizeof info;
  if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0 ||
      size < offsetof(tcp_info, tcpi_rtt) + sizeof info.tcpi_rtt)
    return std::nullopt;
  return std::chrono::microseconds(info.tcpi_rtt);
}

SocketAddress local_address(int fd) {
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &size) != 0) return {};
  return SocketAddress::from(storage);
}

}  // namespace detour::net
