#include "server/acceptor.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "server/worker.h"

namespace detour::server {

namespace {

constexpr int kAcceptsPerTurn = 16;
constexpr Duration kPause = std::chrono::milliseconds(100);

}  // namespace

Acceptor::Acceptor(Worker& worker, int fd, ListenerKind kind)
    : worker_(worker), fd_(fd), kind_(kind) {}

Acceptor::~Acceptor() {
  worker_.poller().remove(fd_);
}

bool Acceptor::start() {
  // Exclusive: a new connection wakes one worker, not all.
  return worker_.poller().add(fd_, EPOLLIN | EPOLLEXCLUSIVE, *this);
}

void Acceptor::on_event(std::uint32_t /*events*/) {
  Shared& shared = worker_.shared();
  for (int i = 0; i < kAcceptsPerTurn; ++i) {
    if (shared.limits.connections() >= shared.descriptors_for_connections) return pause(EMFILE);
    sockaddr_storage storage{};
    socklen_t size = sizeof storage;
    net::UniqueFd fd(
        ::accept4(fd_, reinterpret_cast<sockaddr*>(&storage), &size, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!fd) {
      const int error = errno;
      if (error == EAGAIN) return;
      // The peer gave up before we got to it, or its network did (accept(2), Error handling).
      if (error == ECONNABORTED || error == EINTR || error == EPROTO || error == ENETDOWN ||
          error == EHOSTUNREACH || error == ENETUNREACH || error == EHOSTDOWN)
        continue;
      return pause(error);
    }
    const auto peer = net::SocketAddress::from(storage);
    // Closed at once rather than left waiting: the peer learns it, and nothing piles up.
    if (!admit_rate(peer)) continue;
    auto slot = take_slot(peer);
    if (!slot) continue;
    if (kind_ == ListenerKind::kMain) worker_.scratch().counters.tcp_accepted.add();
    const auto least = std::min_element(
        shared.workers.begin(), shared.workers.end(),
        [](const auto& a, const auto& b) { return a->connection_count() < b->connection_count(); });
    if (least->get() == &worker_) {
      worker_.adopt(std::move(fd), peer, kind_, std::move(*slot));
    } else {
      (*least)->post_connection(std::move(fd), peer, kind_, std::move(*slot));
    }
  }
}

bool Acceptor::admit_rate(const net::SocketAddress& peer) {
  Shared& shared = worker_.shared();
  if (kind_ != ListenerKind::kMain || !shared.tls) return true;
  WorkerScratch& scratch = worker_.scratch();
  if (shared.limits.admit_accept(scratch.now)) return true;
  scratch.counters.tcp_rejected.add();
  shared.log_gated(LogCause::kAcceptRate, LogLevel::kWarn, scratch.now, [&] {
    return fmt::format(
        "connection from {} closed: more come than -accept-connection-limit and "
        "-accept-connection-burst allow; raise them if these are your clients",
        peer.text());
  });
  return false;
}

std::optional<ConnectionLimits::Slot> Acceptor::take_slot(const net::SocketAddress& peer) {
  Shared& shared = worker_.shared();
  WorkerScratch& scratch = worker_.scratch();
  auto slot = shared.limits.take(peer, !shared.is_trusted_proxy(peer));
  if (slot) return std::move(*slot);
  if (slot.error() == ConnectionLimits::Refusal::kTotal) {
    scratch.counters.refused_for_total.add();
    shared.log_gated(LogCause::kConnectionLimit, LogLevel::kWarn, scratch.now, [&] {
      return fmt::format(
          "connection from {} closed: all {} connections that --connections-max allows are open; "
          "raise it, or set it to 0 to take as many as there are file descriptors",
          peer.text(), shared.limits.connections_max());
    });
  } else {
    note_address_refused(shared, scratch, peer);
  }
  return std::nullopt;
}

void note_address_refused(Shared& shared, WorkerScratch& scratch, const net::SocketAddress& peer) {
  scratch.counters.refused_for_address.add();
  shared.log_gated(LogCause::kConnectionLimit, LogLevel::kWarn, scratch.now, [&] {
    return fmt::format(
        "connection from {} closed: {} has all {} connections that --connections-per-address-max "
        "allows; raise it if many clients share that address (behind one NAT or proxy)",
        peer.text(), ConnectionLimits::describe(peer), shared.limits.per_address_max());
  });
}

void Acceptor::pause(int error) {
  WorkerScratch& scratch = worker_.scratch();
  scratch.counters.accept_paused.add();
  Shared& shared = worker_.shared();
  shared.log_gated(LogCause::kAcceptPaused, LogLevel::kError, scratch.now, [&] {
    if (error == EMFILE || error == ENFILE)
      return fmt::format(
          "out of file descriptors at {} connections: new ones wait until others close; raise the "
          "limit (systemd: LimitNOFILE=, shell: ulimit -n)",
          shared.limits.connections());
    return fmt::format("cannot accept connections: {}; trying again", std::strerror(error));
  });
  worker_.poller().remove(fd_);
  worker_.timers().arm(*this, scratch.now + kPause);
}

void Acceptor::on_timer(TimePoint now) {
  if (!start()) worker_.timers().arm(*this, now + kPause);
}

}  // namespace detour::server
