#include "doctor/stun_probe.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <optional>
#include <span>
#include <variant>

#include "client/dial.h"
#include "crypto/keys.h"
#include "net/fd.h"
#include "stun/stun.h"

namespace detour::doctor {
namespace {

std::string ip_text(const stun::Endpoint& endpoint) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  std::visit(
      [&text](const auto& bytes) {
        inet_ntop(bytes.size() == 4 ? AF_INET : AF_INET6, bytes.data(), text.data(), text.size());
      },
      endpoint.address);
  return text.data();
}

/// The address that packets to `server` leave from; empty when there is no route.
std::string local_address_towards(const net::SocketAddress& server) {
  const net::UniqueFd fd(socket(server.family(), SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd || connect(fd.get(), server.get(), server.size()) != 0) return {};
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  if (getsockname(fd.get(), reinterpret_cast<sockaddr*>(&storage), &size) != 0) return {};
  return net::SocketAddress::from(storage).ip_text();
}

/// Reads one datagram and its sender.
std::optional<std::size_t> receive(int fd, std::span<std::uint8_t> buffer,
                                   net::SocketAddress* sender) {
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  const ssize_t count =
      recvfrom(fd, buffer.data(), buffer.size(), 0, reinterpret_cast<sockaddr*>(&storage), &size);
  if (count < 0) return std::nullopt;
  *sender = net::SocketAddress::from(storage);
  return static_cast<std::size_t>(count);
}

}  // namespace

StunAnswer ask_stun(const net::SocketAddress& server, int tries, Duration wait) {
  StunAnswer answer;
  answer.local = local_address_towards(server);
  // Not connected: an answer from another address must be seen. IP_RECVERR tells of ICMP all the
  // same.
  const net::UniqueFd fd(socket(server.family(), SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd || answer.local.empty()) {
    answer.end = StunAnswer::End::kUnroutable;
    return answer;
  }
  const int on = 1;
  if (server.family() == AF_INET)
    (void)setsockopt(fd.get(), IPPROTO_IP, IP_RECVERR, &on, sizeof on);
  else
    (void)setsockopt(fd.get(), IPPROTO_IPV6, IPV6_RECVERR, &on, sizeof on);

  stun::TransactionId id{};
  crypto::random_bytes(id);
  const auto request = stun::encode_request(id);
  for (int attempt = 0; attempt < tries; ++attempt) {
    const TimePoint start = Clock::now();
    if (sendto(fd.get(), request.data(), request.size(), MSG_NOSIGNAL, server.get(),
               server.size()) < 0 &&
        errno != EAGAIN) {
      answer.end = errno == ECONNREFUSED ? StunAnswer::End::kRefused : StunAnswer::End::kUnroutable;
      return answer;
    }
    while (client::wait_for(fd.get(), POLLIN, start + wait)) {
      std::array<std::uint8_t, 1500> buffer{};
      net::SocketAddress sender;
      const auto size = receive(fd.get(), buffer, &sender);
      if (!size) {
        if (errno != ECONNREFUSED) break;
        answer.end = StunAnswer::End::kRefused;
        return answer;
      }
      const auto mapped = stun::parse_response(std::span(buffer).first(*size));
      if (!mapped || mapped->id != id) {
        answer.end = StunAnswer::End::kStrange;
        continue;
      }
      answer.time = Clock::now() - start;
      answer.mapped = ip_text(mapped->endpoint);
      answer.from = sender.text();
      answer.end =
          sender.text() == server.text() ? StunAnswer::End::kAnswered : StunAnswer::End::kElsewhere;
      return answer;
    }
  }
  return answer;
}

}  // namespace detour::doctor
