#include "server/connect_tunnel.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "net/socket.h"
#include "server/worker.h"

namespace detour::server {

namespace {

constexpr std::uint32_t kEvents = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;

/// Look-up and connecting have this long together, as in the reference.
constexpr Duration kDialTimeout = std::chrono::seconds(15);
/// Each of several addresses has at least this long.
constexpr Duration kAddressTimeoutMin = std::chrono::seconds(2);
/// Somebody takes nothing, or only one side still speaks: the other one has this long.
constexpr Duration kStallTimeout = std::chrono::seconds(60);
/// Nothing came from either side. The control plane sends something every minute.
constexpr Duration kIdleTimeout = std::chrono::minutes(10);
/// One read of the target; what the client does not take of it waits with the client's socket.
constexpr std::size_t kReadBytes = 64 * 1024;
/// Reads of one tunnel in one turn; the others wait meanwhile.
constexpr int kReadsPerTurn = 4;

}  // namespace

ConnectTunnel::ConnectTunnel(Worker& worker, Client& client) : worker_(worker), client_(client) {}

ConnectTunnel::~ConnectTunnel() {
  // Its connection has closed it; the worker may be gone by now.
  if (self_) *self_ = nullptr;
}

// --- Connecting

bool ConnectTunnel::open(const ConnectTarget& target) {
  ConnectTunnels& shared = worker_.shared().tunnels;
  Places::Place place = shared.tunnels.take();
  Places::Place lookup_place = shared.lookups.take();
  if (!place || !lookup_place) return false;

  place_ = std::move(place);
  phase_ = Phase::kLookup;
  client_ended_ = paused_ = false;
  dial_until_ = worker_.scratch().now + kDialTimeout;
  worker_.timers().arm(deadline_, dial_until_);
  self_ = std::make_shared<ConnectTunnel*>(this);
  // Runs on the look-up's thread, or on this one at once. The place goes when that thread does.
  auto on_answer = [&worker = worker_, self = self_,
                    lookup_place = std::move(lookup_place)](Lookup::Answer answer) {
    worker.post([self, answer = std::move(answer)]() mutable {
      if (*self != nullptr) (*self)->on_addresses(std::move(answer));
    });
  };
  if (shared.divert_to) {
    on_answer(std::vector{*shared.divert_to});
  } else {
    lookup_ = std::make_unique<Lookup>(target.host, target.port, std::move(on_answer));
  }
  return true;
}

void ConnectTunnel::on_addresses(Lookup::Answer answer) {
  lookup_.reset();
  phase_ = Phase::kConnect;
  if (!answer) return fail(answer.error());
  addresses_.assign(answer->begin(), answer->end());
  last_failure_.clear();
  try_next_address();
}

void ConnectTunnel::try_next_address() {
  fd_.reset();
  while (!addresses_.empty()) {
    const net::SocketAddress address = addresses_.front();
    addresses_.pop_front();
    if (try_address(address)) return;
  }
  fail(last_failure_);
}

bool ConnectTunnel::try_address(const net::SocketAddress& address) {
  const config::Config& config = worker_.shared().config;
  auto fd = net::begin_connect_tcp(address, {.keepalive_idle = config.tcp_keepalive_time,
                                             .user_timeout = config.tcp_user_timeout});
  if (!fd) {
    last_failure_ = fd.error();
    return false;
  }
  if (!worker_.poller().add(fd->get(), kEvents, *this)) {
    last_failure_ = fmt::format("cannot watch a socket: {}", std::strerror(errno));
    return false;
  }
  fd_ = std::move(*fd);
  last_failure_ = fmt::format("{} did not answer in time", address.text());
  const TimePoint now = worker_.scratch().now;
  const Duration share =
      (dial_until_ - now) / static_cast<Duration::rep>(std::ssize(addresses_) + 1);
  worker_.timers().arm(deadline_, std::min(now + std::max(share, kAddressTimeoutMin), dial_until_));
  return true;
}

void ConnectTunnel::on_connected() {
  int error = 0;
  socklen_t size = sizeof error;
  if (::getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
  if (error != 0) {
    last_failure_ = fmt::format("cannot connect: {}", std::strerror(error));
    return try_next_address();
  }
  phase_ = Phase::kOpen;
  addresses_.clear();
  note_progress();
  worker_.timers().arm(deadline_, last_progress_ + kStallTimeout);
  client_.on_tunnel_open();
}

void ConnectTunnel::fail(std::string_view why) {
  close();
  client_.on_tunnel_failed(why);
}

// --- Both directions

void ConnectTunnel::on_event(std::uint32_t events) {
  if (!fd_) return;
  if (phase_ == Phase::kConnect) on_connected();
  if (phase_ != Phase::kOpen) return;
  if ((events & EPOLLOUT) != 0 && is_full()) flush();
  if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) read();
}

void ConnectTunnel::read() {
  for (int i = 0; i < kReadsPerTurn; ++i) {
    if (phase_ != Phase::kOpen || paused_) return;
    ByteBuffer& buffer = worker_.scratch().gathered;
    buffer.clear();
    const auto room = buffer.room();
    const ssize_t received =
        ::recv(fd_.get(), room.data(), std::min(room.size(), kReadBytes), MSG_DONTWAIT);
    if (received < 0 && errno == EINTR) continue;
    if (received < 0 && errno == EAGAIN) return;
    if (received <= 0) return end();
    note_progress();
    paused_ = !client_.on_tunnel_bytes(room.first(static_cast<std::size_t>(received)));
  }
  // Edge-triggered epoll would not say again that there is more, unless asked.
  if (fd_ && !paused_) worker_.poller().modify(fd_.get(), kEvents, *this);
}

void ConnectTunnel::resume() {
  note_progress();
  if (!std::exchange(paused_, false) || !fd_) return;
  worker_.poller().modify(fd_.get(), kEvents, *this);
}

void ConnectTunnel::send(std::span<const std::uint8_t> bytes) {
  if (phase_ != Phase::kOpen || bytes.empty()) return;
  if (!is_full()) {
    const ssize_t sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) return end();
    note_progress();
    if (sent > 0) bytes = bytes.subspan(static_cast<std::size_t>(sent));
  }
  keep(bytes);
}

void ConnectTunnel::keep(std::span<const std::uint8_t> rest) {
  if (rest.empty()) return;
  const std::size_t waiting = waiting_end_ - waiting_begin_;
  if (waiting_.capacity() - waiting_end_ < rest.size()) {
    BufferPool& pool = worker_.scratch().pool;
    Block larger = pool.get(waiting + rest.size());
    if (waiting != 0) std::memcpy(larger.data(), waiting_.data() + waiting_begin_, waiting);
    if (waiting_) pool.put(std::move(waiting_));
    waiting_ = std::move(larger);
    waiting_begin_ = 0;
    waiting_end_ = waiting;
  }
  std::memcpy(waiting_.data() + waiting_end_, rest.data(), rest.size());
  waiting_end_ += rest.size();
}

void ConnectTunnel::flush() {
  while (is_full()) {
    const ssize_t sent = ::send(fd_.get(), waiting_.data() + waiting_begin_,
                                waiting_end_ - waiting_begin_, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno == EAGAIN) return;
    if (sent < 0) return end();
    waiting_begin_ += static_cast<std::size_t>(sent);
    note_progress();
  }
  waiting_begin_ = waiting_end_ = 0;
  worker_.scratch().pool.put(std::exchange(waiting_, Block{}));
  if (client_ended_) {
    ::shutdown(fd_.get(), SHUT_WR);
  } else {
    client_.on_tunnel_drained();
  }
}

// --- Time and the end

void ConnectTunnel::note_progress() {
  last_progress_ = worker_.scratch().now;
}

void ConnectTunnel::end_of_client() {
  if (phase_ != Phase::kOpen || std::exchange(client_ended_, true)) return;
  note_progress();
  if (!is_full()) ::shutdown(fd_.get(), SHUT_WR);
}

void ConnectTunnel::on_deadline(TimePoint now) {
  if (phase_ == Phase::kLookup) return fail("the name was not looked up in time");
  if (phase_ == Phase::kConnect) {
    if (now >= dial_until_) addresses_.clear();
    return try_next_address();
  }
  const bool is_stuck = is_full() || paused_ || client_ended_;
  if (now >= last_progress_ + (is_stuck ? kStallTimeout : kIdleTimeout)) return end();
  worker_.timers().arm(deadline_, now + kStallTimeout);
}

void ConnectTunnel::end() {
  close();
  client_.on_tunnel_ended();
}

void ConnectTunnel::close() {
  phase_ = Phase::kIdle;
  worker_.timers().disarm(deadline_);
  if (self_) *self_ = nullptr;
  self_.reset();
  lookup_.reset();
  addresses_.clear();
  fd_.reset();
  if (waiting_) worker_.scratch().pool.put(std::exchange(waiting_, Block{}));
  waiting_begin_ = waiting_end_ = 0;
  place_ = {};
}

}  // namespace detour::server
