#include "client/dial.h"

#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>

#include "net/address.h"

namespace detour::client {

namespace {

struct FreeAddresses {
  void operator()(addrinfo* list) const { freeaddrinfo(list); }
};
using Addresses = std::unique_ptr<addrinfo, FreeAddresses>;

Outcome<Addresses> look_up(const std::string& host, std::uint16_t port) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* list = nullptr;
  const int error = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &list);
  if (error != 0)
    return give_up(Layer::kAddress,
                   fmt::format("cannot look up '{}': {}", host,
                               error == EAI_SYSTEM ? std::strerror(errno) : gai_strerror(error)));
  return Addresses(list);
}

std::string address_text(const addrinfo& address) {
  sockaddr_storage storage{};
  std::memcpy(&storage, address.ai_addr, std::min<std::size_t>(sizeof storage, address.ai_addrlen));
  return net::SocketAddress::from(storage).text();
}

std::unexpected<Failure> tcp_failure(const std::string& address, int error) {
  Failure failure{.layer = Layer::kTcp, .message = {}, .system_error = error};
  switch (error) {
    case ECONNREFUSED:
      failure.message = fmt::format("{} refused the connection: nothing listens there", address);
      break;
    case ETIMEDOUT:
      failure.timed_out = true;
      failure.message = fmt::format("{} does not answer", address);
      break;
    default:
      failure.message = fmt::format("cannot connect to {}: {}", address, std::strerror(error));
  }
  return std::unexpected(std::move(failure));
}

/// Waits for a connection that was begun. Gives 0 or the errno of its failure.
int finish_connect(int fd, TimePoint deadline) {
  if (!wait_for(fd, POLLOUT, deadline)) return ETIMEDOUT;
  int error = 0;
  socklen_t size = sizeof error;
  return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 ? error : errno;
}

Outcome<TcpConnection> connect_to(const addrinfo& address, TimePoint deadline, int receive_buffer) {
  const std::string text = address_text(address);
  net::UniqueFd fd(socket(address.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return tcp_failure(text, errno);
  const int on = 1;
  (void)setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (receive_buffer > 0)
    (void)setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
  if (connect(fd.get(), address.ai_addr, address.ai_addrlen) != 0) {
    const int error = errno == EINPROGRESS ? finish_connect(fd.get(), deadline) : errno;
    if (error != 0) return tcp_failure(text, error);
  }
  return TcpConnection{.fd = std::move(fd), .address = text};
}

}  // namespace

Outcome<TcpConnection> dial_tcp(const std::string& host, std::uint16_t port, TimePoint deadline,
                                int receive_buffer) {
  auto addresses = look_up(host, port);
  if (!addresses) return std::unexpected(std::move(addresses.error()));
  Outcome<TcpConnection> connection = give_up(Layer::kAddress, "the name has no address");
  for (const addrinfo* at = addresses->get(); at != nullptr; at = at->ai_next) {
    // Addresses share the time that is left, so that one that swallows packets is not the end.
    const TimePoint now = Clock::now();
    const TimePoint until = at->ai_next == nullptr ? deadline : now + (deadline - now) / 2;
    connection = connect_to(*at, until, receive_buffer);
    if (connection) return connection;
  }
  return connection;
}

bool wait_for(int fd, short events, TimePoint deadline) {
  constexpr std::chrono::milliseconds kWaitMax = std::chrono::hours(1);
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    const auto wait = std::clamp(left, std::chrono::milliseconds(0), kWaitMax);
    pollfd polled{.fd = fd, .events = events, .revents = 0};
    const int count = poll(&polled, 1, static_cast<int>(wait.count()));
    if (count > 0) return true;
    if (count < 0 && errno != EINTR) return false;
    if (Clock::now() >= deadline) return false;
  }
}

}  // namespace detour::client
