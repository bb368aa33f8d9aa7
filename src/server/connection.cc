#include "server/connection.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "base/bytes.h"
#include "net/openssl_transport.h"
#include "net/plain_transport.h"
#include "net/proxy_header.h"
#include "net/socket.h"
#include "net/tcp_facts.h"
#include "server/worker.h"

namespace detour::server {

namespace {

constexpr std::uint32_t kReadEvents = EPOLLIN | EPOLLRDHUP | EPOLLET;

/// In the order of net::Transport::Version.
constexpr std::array<std::string_view, metrics::kTlsVersionCount> kTlsNames = {"1.0", "1.1", "1.2",
                                                                               "1.3", "unknown"};

std::size_t index_of(net::Transport::Version version) {
  return static_cast<std::size_t>(version);
}

}  // namespace

Connection::Connection(Worker& worker, net::UniqueFd fd, net::SocketAddress peer,
                       ListenerKind listener, ConnectionLimits::Slot slot,
                       Duration keep_alive_period)
    : worker_(worker),
      shared_(worker.shared()),
      scratch_(worker.scratch()),
      peer_(std::move(peer)),
      listener_(listener),
      phase_(shared_.config.proxy_protocol && shared_.is_trusted_proxy(peer_) ? Phase::kProxyHeader
                                                                              : first_phase()),
      slot_(std::move(slot)),
      setup_(std::make_unique<Setup>()),
      keep_alive_period_(keep_alive_period),
      send_side_(std::move(fd), relay::QueueLimits{.packets_max = shared_.config.queue_packets_max},
                 *this) {
  if (first_phase() == Phase::kHttp)
    send_side_.set_transport(std::make_unique<net::PlainTransport>());
}

Connection::Phase Connection::first_phase() const {
  return listener_ == ListenerKind::kMain && shared_.tls ? Phase::kTlsHandshake : Phase::kHttp;
}

Connection::~Connection() = default;

bool Connection::start() {
  worker_.timers().arm(deadline_, scratch_.now + kLoginTimeout);
  return worker_.poller().add(send_side_.fd(), kReadEvents, *this);
}

void Connection::on_event(std::uint32_t events) {
  if (phase_ == Phase::kClosed) return;
  if ((events & EPOLLOUT) != 0) {
    send_side_.on_writable(scratch_);
    if (phase_ == Phase::kTunnel) {
      tunnel_->note_progress();
      if (!send_side_.stall(scratch_).blocked) tunnel_->resume();
    }
    if (phase_ == Phase::kFinishing) finish();
    if (is_watcher_) worker_.queue_watch(*this);
  }
  if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) == 0) return;
  if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) saw_hangup_ = true;
  if (read_pause_.is_armed()) {
    // What is behind is read later; but a connection that is broken holds nothing to wait for.
    if ((events & (EPOLLHUP | EPOLLERR)) != 0) close(CloseReason::kSocketError);
    return;
  }
  if (phase_ == Phase::kTunnel) {
    // A client that only ended its side still takes what comes; one that is gone does not.
    if ((events & (EPOLLHUP | EPOLLERR)) != 0) return close(CloseReason::kSocketError);
    if (tunnel_waits()) return;
  }
  if (is_in_setup()) {
    worker_.queue_setup(*this);
  } else {
    read_turn();
  }
}

/// What it sends stays in the socket until somebody else has decided.
bool Connection::waits_for_others() const {
  return phase_ == Phase::kAnswer || phase_ == Phase::kAdmission || phase_ == Phase::kRefused ||
         phase_ == Phase::kConnect;
}

void Connection::read_turn() {
  if (read_pause_.is_armed()) return;
  if (phase_ == Phase::kTunnel && tunnel_waits()) return;
  if (waits_for_others()) {
    // What it sends waits in the socket; but a client that is gone need not be asked about.
    if (saw_hangup_) close(CloseReason::kPeerClosed);
    return;
  }
  ByteBuffer& buffer = scratch_.cipher_in;
  buffer.clear();
  // A record of which a part came before is put together here.
  const auto room = buffer.room().subspan(cipher_carry_.size);
  const ssize_t received = ::recv(send_side_.fd(), room.data(), room.size(), MSG_DONTWAIT);
  if (received == 0) {
    saw_hangup_ = true;
    if (phase_ == Phase::kTunnel) return tunnel_->end_of_client();
    return close(CloseReason::kPeerClosed);
  }
  if (received < 0) {
    if (errno == EAGAIN) return;
    if (errno == EINTR) return worker_.queue_again(*this);
    return close(CloseReason::kSocketError);
  }
  const std::size_t carried = cipher_carry_.size;
  give_back(cipher_carry_, buffer.room().data());
  buffer.commit(carried + static_cast<std::size_t>(received));
  std::span<const std::uint8_t> input = buffer.bytes();
  if (phase_ == Phase::kRelay) worker_.saw_sender(id());

  std::size_t unread = 0;
  if (phase_ < Phase::kRelay && !take_preamble(input)) {
    // Nothing for the layers behind yet, or the end.
  } else if (phase_ != Phase::kTlsHandshake) {
    unread = take_input(input);
  } else if (continue_handshake(input)) {
    unread = take_input({});
  }
  if (phase_ == Phase::kClosed) return;
  keep(cipher_carry_, input.last(unread));
  if (setup_) send_greeting();
  // A read that filled the buffer may have left more behind, and edge-triggered epoll will not say
  // so again. Other connections get their turn first.
  const bool was_full = static_cast<std::size_t>(received) == room.size();
  if (was_full || saw_hangup_) worker_.queue_again(*this);
}

// --- A proxy in front

/// Takes what stands before TLS and HTTP off the front of `input`. False when there is nothing more
/// to be done with it.
bool Connection::take_preamble(std::span<const std::uint8_t>& input) {
  if (phase_ == Phase::kProxyHeader) return take_proxy_header(input) && !input.empty();
  if (std::exchange(setup_->saw_input, true)) return true;
  return !refuse_stray_proxy_header(input);
}

bool Connection::take_proxy_header(std::span<const std::uint8_t>& input) {
  std::string& head = setup_->proxy_header;
  const std::size_t before = head.size();
  // What is beyond the largest header cannot belong to it.
  head += as_text(input.first(std::min(input.size(), net::kProxyHeaderMax)));
  const auto parsed = net::parse_proxy_header(as_bytes(head));
  if (!parsed) {
    shared_.log_gated(LogCause::kProxyHeader, LogLevel::kWarn, scratch_.now, [&] {
      if (parsed.error().code == ErrorCode::kProxyHeaderMissing)
        return fmt::format(
            "{} is a trusted proxy and sent no PROXY header: make it send one (nginx: "
            "proxy_protocol on; HAProxy: send-proxy-v2), or turn --proxy-protocol off",
            peer_.text());
      return fmt::format("proxy {}: {}", peer_.text(), describe(parsed.error().code));
    });
    close(CloseReason::kRefused);
    return false;
  }
  if (!*parsed) return false;
  input = input.subspan((*parsed)->size - before);
  const auto client = (*parsed)->source;
  head = {};
  setup_->saw_input = true;
  phase_ = first_phase();
  if (!client || move_to(*client)) return true;
  close(CloseReason::kRefused);
  return false;
}

/// A PROXY header that is not believed would only make a puzzling TLS or HTTP error.
bool Connection::refuse_stray_proxy_header(std::span<const std::uint8_t> input) {
  if (!net::looks_like_proxy_header(input)) return false;
  shared_.log_gated(LogCause::kProxyHeader, LogLevel::kWarn, scratch_.now, [&] {
    return fmt::format(
        "{} sent a PROXY header and was closed: {}", peer_.text(),
        shared_.config.proxy_protocol
            ? "it is not among --trusted-proxies; add its address there if it is yours"
            : "--proxy-protocol is off; turn it on and add the proxy to --trusted-proxies");
  });
  close(CloseReason::kRefused);
  return true;
}

/// Learns who the client behind the proxy is. False when its address has too many connections.
bool Connection::move_to(const net::SocketAddress& client) {
  peer_ = client;
  if (slot_.move_to(client)) return true;
  note_address_refused(shared_, scratch_, client);
  return false;
}

void Connection::on_read_resume(TimePoint /*now*/) {
  take_input({});
  // Edge-triggered epoll may have told of input during the pause, so the socket is read in any
  // case.
  if (phase_ != Phase::kClosed && !read_pause_.is_armed()) worker_.queue_again(*this);
}

void Connection::set_receive_rate(relay::ReceiveRate rate) {
  if (phase_ != Phase::kRelay || identity().is_mesh_peer) return;
  splitter_.set_receive_rate(rate);
  if (!read_pause_.is_armed()) return;
  worker_.timers().disarm(read_pause_);
  on_read_resume(scratch_.now);
}

// --- TLS

bool Connection::continue_handshake(std::span<const std::uint8_t> input) {
  if (!send_side_.has_transport()) {
    // A TLS record of a handshake begins with 0x16; an HTTP request with a capital letter.
    if (input[0] >= 'A' && input[0] <= 'Z') {
      reject_plain_http();
      return false;
    }
    // Silent connections hold no TLS state: it is made when the first byte arrives.
    auto transport = net::OpenSslTransport::make(*shared_.tls,
                                                 shared_.tls->depends_on_address()
                                                     ? net::local_address(send_side_.fd()).ip_text()
                                                     : std::string());
    if (!transport) {
      close(CloseReason::kRefused);
      return false;
    }
    send_side_.set_transport(std::move(transport));
  }
  const auto made = send_side_.handshake(input, scratch_);
  switch (made.status) {
    case net::Transport::Handshake::kNeedsInput:
      return false;
    case net::Transport::Handshake::kFailed:
      scratch_.counters.handshake_failures.add();
      shared_.log_gated(LogCause::kTlsFailed, LogLevel::kWarn, scratch_.now, [&] {
        const std::string waiting_for = shared_.tls->waiting_for();
        return fmt::format("TLS handshake with {} failed: {}", peer_.text(),
                           waiting_for.empty() ? made.failure : waiting_for);
      });
      close(CloseReason::kRefused);
      return false;
    case net::Transport::Handshake::kDone:
      break;
  }
  tls_version_ = made.version;
  counts_as_tls_ = true;
  scratch_.counters.tls_requests[index_of(tls_version_)].add();
  scratch_.counters.tls_active[index_of(tls_version_)].add();
  phase_ = Phase::kHttp;
  return true;
}

void Connection::reject_plain_http() {
  constexpr std::string_view kAnswer =
      "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
  shared_.log_gated(LogCause::kHttpRejected, LogLevel::kInfo, scratch_.now, [&] {
    return fmt::format(
        "{} sent plain HTTP to the TLS port: told it so (a proxy in front must pass TLS through)",
        peer_.text());
  });
  send_side_.set_transport(std::make_unique<net::PlainTransport>());
  send_side_.send(as_bytes(kAnswer), scratch_);
  finish();
}

// --- Input

/// Gives how many bytes at the end of the input are a part of a record.
std::size_t Connection::take_input(std::span<const std::uint8_t> input) {
  ByteBuffer& plain = scratch_.plain;
  plain.clear();
  if (carry_.size != 0) give_back(carry_, plain.extend(carry_.size));
  std::size_t unread = 0;
  for (;;) {
    const auto opened = send_side_.open(input, scratch_);
    input = {};
    if (websocket_ != nullptr) websocket_->hold_answers(opened.blocked);
    auto rest = plain.bytes();
    consume(rest);
    if (phase_ == Phase::kClosed) return 0;

    const std::size_t consumed = plain.size() - rest.size();
    switch (opened.status) {
      case net::Transport::Opened::kOutputFull:
        // Cannot happen without progress: the buffer is larger than any frame and any read.
        if (consumed == 0 && !rest.empty()) {
          close(CloseReason::kRefused);
          return 0;
        }
        plain.consume_front(consumed);
        continue;
      case net::Transport::Opened::kNeedsInput:
        unread += opened.unread;
        if (std::exchange(reopen_, false)) {
          plain.consume_front(consumed);
          continue;
        }
        keep(carry_, rest);
        return unread;
      case net::Transport::Opened::kClosed:
        if (phase_ == Phase::kTunnel) {
          tunnel_->end_of_client();
          return 0;
        }
        close(CloseReason::kPeerClosed);
        return 0;
      case net::Transport::Opened::kFailed:
        shared_.log_gated(LogCause::kTlsFailed, LogLevel::kInfo, scratch_.now, [&] {
          return fmt::format("{} with {} ended: {}", websocket_ != nullptr ? "WebSocket" : "TLS",
                             peer_.text(), send_side_.failure());
        });
        // The peer may still be sending: it shall see our close frame and no reset.
        if (websocket_ != nullptr) {
          finish();
        } else {
          close(CloseReason::kSocketError);
        }
        return 0;
    }
  }
}

void Connection::keep(Carry& carry, std::span<const std::uint8_t> rest) {
  if (rest.empty()) return;
  carry.block = scratch_.pool.get(rest.size());
  carry.size = rest.size();
  std::memcpy(carry.block.data(), rest.data(), rest.size());
}

/// Moves what was kept to `to`.
void Connection::give_back(Carry& carry, std::uint8_t* to) {
  if (carry.size != 0) std::memcpy(to, carry.block.data(), carry.size);
  drop(carry);
}

void Connection::drop(Carry& carry) {
  if (carry.block) scratch_.pool.put(std::exchange(carry.block, Block{}));
  carry.size = 0;
}

void Connection::consume(std::span<const std::uint8_t>& input) {
  bool more = true;
  while (more) {
    switch (phase_) {
      case Phase::kHttp:
        more = consume_http(input);
        break;
      case Phase::kBody:
        more = consume_body(input);
        break;
      case Phase::kLogin:
        more = consume_login(input);
        break;
      case Phase::kRelay: {
        more = false;
        const auto handled = worker_.router().handle_input(*this, splitter_, input, scratch_.now);
        if (handled) {
          if (const auto until = splitter_.waits_until()) {
            scratch_.counters.rate_limit_waits.add();
            worker_.timers().arm(read_pause_, *until);
          }
          break;
        }
        shared_.log_gated(LogCause::kProtocolError, LogLevel::kWarn, scratch_.now, [&] {
          return fmt::format("client {} {} broke the protocol and was closed: {}",
                             key().short_text(), peer_.text(), describe(handled.error().code));
        });
        close(CloseReason::kRefused);
        break;
      }
      case Phase::kProxyHeader:
      case Phase::kTlsHandshake:
      case Phase::kRefused:
      case Phase::kFinishing:
        input = {};
        return;
      case Phase::kTunnel:
        tunnel_->send(input);
        input = {};
        return;
      case Phase::kAnswer:
      case Phase::kAdmission:
      case Phase::kConnect:
      case Phase::kClosed:
        return;
    }
  }
}

// --- Time and the end

/// From login on, one timer serves for KeepAlive and for samples of the round-trip time.
void Connection::begin_relay_timer() {
  keep_alive_at_ = scratch_.now + keep_alive_period_;
  if (!shared_.config.disable_rtt_stats) {
    samples_rtt_ = websocket_ == nullptr;  // derper does not look below one.
    if (!samples_rtt_) scratch_.counters.sample_rtt(metrics::TcpRtt::kNonTcp);
  }
  worker_.timers().arm(deadline_, samples_rtt_ ? scratch_.now + kRttInterval : keep_alive_at_);
}

void Connection::on_relay_timer(TimePoint now) {
  if (samples_rtt_) {
    const auto rtt = net::tcp_round_trip_time(send_side_.fd());
    samples_rtt_ = rtt.has_value();
    scratch_.counters.sample_rtt(rtt ? metrics::tcp_rtt_bucket(*rtt) : metrics::TcpRtt::kError);
  }
  if (now >= keep_alive_at_) {
    worker_.outbox().add_keep_alive(*this);
    send_side_.rest();
    keep_alive_at_ = now + keep_alive_period_;
  }
  worker_.timers().arm(
      deadline_, samples_rtt_ ? std::min(now + kRttInterval, keep_alive_at_) : keep_alive_at_);
}

void Connection::on_deadline(TimePoint now) {
  if (phase_ == Phase::kRelay) return on_relay_timer(now);
  if (phase_ == Phase::kRefused) return close(CloseReason::kRefused);
  const bool idle = phase_ == Phase::kFinishing || (setup_ && setup_->served_before);
  if (!idle) {
    scratch_.counters.handshake_timeouts.add();
    shared_.log_gated(LogCause::kHandshakeTimeout, LogLevel::kInfo, now, [&] {
      return fmt::format("{} did not log in within {} s and was closed ({})", peer_.text(),
                         std::chrono::duration_cast<std::chrono::seconds>(kLoginTimeout).count(),
                         phase_ == Phase::kProxyHeader    ? "waiting for the PROXY header"
                         : phase_ == Phase::kTlsHandshake ? "in the TLS handshake"
                         : phase_ == Phase::kHttp         ? "waiting for an HTTP request"
                         : phase_ == Phase::kAdmission    ? "waiting to be admitted"
                                                          : "waiting for ClientInfo");
    });
  }
  close(CloseReason::kTimeout);
}

void Connection::wait_until_writable(int fd) {
  worker_.poller().modify(fd, kReadEvents | EPOLLOUT, *this);
}

Duration Connection::write_timeout() const {
  // The tunnel sees to that, and what is left of one has its deadline.
  if (phase_ == Phase::kTunnel || (phase_ == Phase::kFinishing && tunnel_)) return Duration::zero();
  return client_write_timeout();
}

Duration Connection::client_write_timeout() const {
  return identity().is_mesh_peer ? kMeshWriteTimeout : shared_.config.tcp_write_timeout;
}

void Connection::on_blocked(WorkerScratch& scratch) {
  if (&scratch != &scratch_) {
    // Another worker found out, so we are logged in: our phase is not its to read. It only knows us
    // during its turn, so the message carries the id.
    if (client_write_timeout() != Duration::zero()) worker_.post_watch(id());
    return;
  }
  const Duration timeout = write_timeout();
  if (timeout != Duration::zero()) worker_.timers().arm(write_check_, scratch.now + timeout);
}

void Connection::on_write_check(TimePoint now) {
  const auto stall = send_side_.stall(scratch_);
  if (!stall.blocked) return;
  const TimePoint due = stall.last_progress + write_timeout();
  if (now < due) {
    worker_.timers().arm(write_check_, due);
    return;
  }
  scratch_.counters.write_timeouts.add();
  shared_.log_gated(LogCause::kWriteTimeout, LogLevel::kInfo, now, [&] {
    return fmt::format(
        "{} {} {} took no data for {} ms and was closed{}",
        identity().is_mesh_peer ? "mesh peer" : "client", key().short_text(), peer_.text(),
        std::chrono::duration_cast<std::chrono::milliseconds>(write_timeout()).count(),
        identity().is_mesh_peer ? "" : " (-tcp-write-timeout)");
  });
  close(CloseReason::kWriteTimeout);
}

void Connection::watch_write(TimePoint now) {
  const Duration timeout = write_timeout();
  if (phase_ != Phase::kClosed && timeout != Duration::zero() && !write_check_.is_armed())
    worker_.timers().arm(write_check_, now + timeout);
}

std::optional<admin::ClientStatus> Connection::status() {
  if (phase_ != Phase::kRelay) return std::nullopt;
  const SendSide::Facts facts = send_side_.facts(scratch_);
  admin::ClientStatus status{
      .identity = identity(),
      .received = received(),
      .is_home = is_home(),
      .is_duplicate = is_duplicate(),
      .is_active = shared_.directory.find(key()) == this,
      .is_websocket = websocket_ != nullptr,
      .sent_packets = facts.sent_packets,
      .sent_bytes = facts.sent_bytes,
      .evicted_packets = facts.evicted_packets,
      .waiting_data = static_cast<std::uint32_t>(
          facts.waiting.packets[static_cast<std::size_t>(metrics::PacketKind::kOther)]),
      .waiting_disco = static_cast<std::uint32_t>(
          facts.waiting.packets[static_cast<std::size_t>(metrics::PacketKind::kDisco)]),
      .waiting_control = static_cast<std::uint32_t>(facts.waiting.control_frames),
      .waiting_bytes = facts.waiting_bytes,
      .tls = counts_as_tls_ ? kTlsNames[index_of(tls_version_)] : std::string_view(),
      .worker = worker_.index()};
  if (const auto tcp = net::tcp_facts(send_side_.fd()))
    status.tcp = {.round_trip_time = tcp->round_trip_time,
                  .variation = tcp->variation,
                  .congestion_window = tcp->congestion_window,
                  .retransmissions = tcp->retransmissions,
                  .sent_bytes = tcp->sent_bytes,
                  .received_bytes = tcp->received_bytes};
  return status;
}

void Connection::close(CloseReason reason) {
  if (phase_ == Phase::kClosed) return;
  if (is_registered_) {
    is_registered_ = false;
    worker_.announce_departure(key(), worker_.router().remove(*this));
  }
  leave_tunnel();
  if (phase_ == Phase::kAdmission || phase_ == Phase::kAnswer) worker_.unpark(*this);
  if (phase_ == Phase::kAnswer) shared_.debug_desk.left(id());
  if (std::exchange(is_known_to_admission_, false)) shared_.admission.get()->left(id());
  phase_ = Phase::kClosed;
  slot_.release();
  worker_.timers().disarm(deadline_);
  worker_.timers().disarm(read_pause_);
  worker_.timers().disarm(write_check_);
  if (counts_as_tls_) scratch_.counters.tls_active[index_of(tls_version_)].sub();
  send_side_.close(scratch_, reason == CloseReason::kWriteTimeout ? SendSide::Ending::kWriteFailed
                             : saw_hangup_                        ? SendSide::Ending::kPeerGone
                                                                  : SendSide::Ending::kAnnounced);
  drop(carry_);
  drop(cipher_carry_);
  websocket_ = nullptr;
  setup_.reset();
  worker_.bury(*this);
}

void Connection::begin_shutdown() {
  if (phase_ == Phase::kClosed || phase_ == Phase::kFinishing) return;
  if (waits_for_others()) return close(CloseReason::kShutdown);
  if (is_in_setup() && !send_side_.has_transport()) return close(CloseReason::kShutdown);
  finish();
}

}  // namespace detour::server
