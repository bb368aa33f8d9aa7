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
    if (shared.connections.load(std::memory_order_relaxed) >= shared.connections_max)
      return pause(EMFILE);
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
    if (kind_ == ListenerKind::kMain) worker_.scratch().counters.tcp_accepted.add();
    const auto least = std::min_element(
        shared.workers.begin(), shared.workers.end(),
        [](const auto& a, const auto& b) { return a->connection_count() < b->connection_count(); });
    const auto peer = net::SocketAddress::from(storage);
    if (least->get() == &worker_) {
      worker_.adopt(std::move(fd), peer, kind_);
    } else {
      (*least)->post_connection(std::move(fd), peer, kind_);
    }
  }
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
          shared.connections.load());
    return fmt::format("cannot accept connections: {}; trying again", std::strerror(error));
  });
  worker_.poller().remove(fd_);
  worker_.timers().arm(*this, scratch.now + kPause);
}

void Acceptor::on_timer(TimePoint now) {
  if (!start()) worker_.timers().arm(*this, now + kPause);
}

}  // namespace detour::server
