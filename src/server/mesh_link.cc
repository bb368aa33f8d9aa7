#include "server/mesh_link.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <utility>

#include "derp/frame.h"
#include "server/mesh_connector.h"
#include "server/worker.h"

namespace detour::server {

namespace {

using client::Failure;
using client::Layer;

constexpr std::uint32_t kEvents = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;

/// One address has this long to answer; the next one is tried then.
constexpr Duration kConnectTimeout = std::chrono::seconds(3);
/// From connected to logged in.
constexpr Duration kLinkLoginTimeout = std::chrono::seconds(10);
/// A relay sends KeepAlive every 60 to 65 s; one that is silent for this long is gone.
constexpr Duration kSilenceMax = std::chrono::seconds(120);
/// As the reference: a link that takes nothing for this long is given up and made anew.
constexpr Duration kLinkWriteTimeout = std::chrono::seconds(5);
/// Packets of each kind that may wait for a full link. Many clients share it, so it is far more
/// than a client's own queue.
constexpr std::uint32_t kLinkQueuePackets = 1024;
/// Reads of one link in one turn; the other connections wait meanwhile.
constexpr int kReadsPerTurn = 4;

bool is_ip(const std::string& host) {
  return net::SocketAddress::parse(host, 0).has_value() && !host.empty();
}

std::string host_header(const MeshTarget& target) {
  const bool is_ipv6 = target.host.find(':') != std::string::npos;
  std::string header = is_ipv6 ? fmt::format("[{}]", target.host) : target.host;
  if (target.port != 443) header += fmt::format(":{}", target.port);
  return header;
}

Failure failure_of(Layer layer, std::string message) {
  return {.layer = layer, .message = std::move(message)};
}

}  // namespace

std::expected<MeshTarget, std::string> MeshTarget::parse(const config::MeshPeer& peer) {
  const auto refuse = [&](std::string_view what) {
    return std::unexpected(fmt::format(
        "mesh peer {:?}: {}; write host, host:port or host/address-to-dial, for example "
        "derp1.example.com or derp1.example.com:8443/10.0.0.1",
        peer.dial_host.empty() ? peer.host : peer.host + "/" + peer.dial_host, what));
  };
  constexpr std::string_view kForbidden = "/ \t\r\n\"'@?#";
  MeshTarget target{.name = peer.host, .host = peer.host, .dial_host = peer.dial_host};
  if (peer.host.find_first_of(kForbidden) != std::string::npos ||
      peer.dial_host.find_first_of(kForbidden) != std::string::npos)
    return refuse("has a character that no host name has");
  std::string_view rest = peer.host;
  std::string_view port;
  if (rest.starts_with('[')) {
    const std::size_t end = rest.find(']');
    if (end == std::string_view::npos) return refuse("has a bracket without its other half");
    target.host = rest.substr(1, end - 1);
    rest = rest.substr(end + 1);
    if (!rest.empty() && rest[0] != ':') return refuse("has something behind the bracket");
    port = rest;
  } else if (!is_ip(target.host)) {
    const std::size_t colon = rest.find(':');
    if (colon != std::string_view::npos) port = rest.substr(colon);
    target.host = rest.substr(0, colon);
  }
  if (!port.empty()) {
    port.remove_prefix(1);
    const char* const end = port.data() + port.size();
    const auto [parsed_to, error] = std::from_chars(port.data(), end, target.port);
    if (error != std::errc{} || parsed_to != end || target.port == 0)
      return refuse("has a port that is not between 1 and 65535");
  }
  if (target.host.empty()) return refuse("has no host name");
  if (target.dial_host.starts_with('[') && target.dial_host.ends_with(']'))
    target.dial_host = target.dial_host.substr(1, target.dial_host.size() - 2);
  if (target.dial_host.find(':') != std::string::npos && !is_ip(target.dial_host))
    return refuse("has a port behind the address to dial, where the one of the host is used");
  if (target.dial_host.empty()) target.dial_host = target.host;
  return target;
}

MeshLink::MeshLink(MeshConnector& connector, Worker& worker, net::UniqueFd fd,
                   const net::SocketAddress& address)
    : connector_(connector),
      worker_(worker),
      shared_(worker.shared()),
      scratch_(worker.scratch()),
      address_(address),
      send_side_(std::move(fd), relay::QueueLimits{.packets_max = kLinkQueuePackets}, *this) {}

MeshLink::~MeshLink() = default;

bool MeshLink::start() {
  worker_.timers().arm(deadline_, scratch_.now + kConnectTimeout);
  return worker_.poller().add(send_side_.fd(), kEvents, *this);
}

void MeshLink::on_event(std::uint32_t events) {
  if (phase_ == Phase::kClosed) return;
  if (phase_ == Phase::kConnect) {
    on_connected();
    if (phase_ == Phase::kClosed) return;
  }
  if ((events & EPOLLOUT) != 0) send_side_.on_writable(scratch_);
  if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) == 0) return;
  for (int i = 0; i < kReadsPerTurn; ++i) {
    if (!read_once() || phase_ == Phase::kClosed) return;
  }
  // Edge-triggered epoll would not say again that there is more, unless asked.
  worker_.poller().modify(send_side_.fd(), kEvents, *this);
}

bool MeshLink::read_once() {
  ByteBuffer& buffer = scratch_.cipher_in;
  buffer.clear();
  const auto room = buffer.room();
  const ssize_t received = ::recv(send_side_.fd(), room.data(), room.size(), MSG_DONTWAIT);
  if (received == 0) {
    fail(session_ ? session_->ended()
                  : failure_of(Layer::kTls, "the connection was closed in the handshake"));
    return false;
  }
  if (received < 0) {
    if (errno == EINTR) return true;
    if (errno != EAGAIN) {
      const int error = errno;
      fail(failure_of(session_ ? Layer::kRelay : Layer::kTls, std::strerror(error)));
    }
    return false;
  }
  last_received_ = scratch_.now;
  const auto input = room.first(static_cast<std::size_t>(received));
  if (phase_ == Phase::kTlsHandshake) {
    continue_handshake(input);
  } else {
    take_input(input);
  }
  return true;
}

// --- Setting up

void MeshLink::on_connected() {
  int error = 0;
  socklen_t size = sizeof error;
  if (::getsockopt(send_side_.fd(), SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
  if (error != 0)
    return fail(failure_of(Layer::kTcp, fmt::format("cannot connect to {}: {}", address_.text(),
                                                    std::strerror(error))));
  phase_ = Phase::kTlsHandshake;
  login_due_ = scratch_.now + kLinkLoginTimeout;
  worker_.timers().arm(deadline_, login_due_);
  const std::string& host = connector_.target().host;
  auto transport =
      std::make_unique<LinkTransport>(connector_.tls(), host, is_ip(host) ? std::string() : host);
  transport_ = transport.get();
  send_side_.set_transport(std::move(transport));
  continue_handshake({});
}

void MeshLink::continue_handshake(std::span<const std::uint8_t> input) {
  const auto made = send_side_.handshake(input, scratch_);
  if (made.status == net::Transport::Handshake::kNeedsInput) return;
  const client::TlsStream& stream = transport_->stream();
  if (made.status == net::Transport::Handshake::kFailed) return fail(stream.failure());

  const auto relay_key = stream.meta_key();
  if (relay_key && found_ourselves(*relay_key)) return;
  client::SessionOptions options{.key = shared_.private_key,
                                 .host = host_header(connector_.target())};
  options.info.mesh_key = shared_.mesh_key();
  options.info.can_ack_pings = false;
  // Fast start as every client does it: with TLS 1.3 and the relay's key out of its certificate.
  if (stream.is_tls13()) options.relay_key = relay_key;
  transport_ = nullptr;  // From here on other workers may come to it, behind the lock.
  session_.emplace(std::move(options));
  phase_ = Phase::kLogin;
  send_session_output();
  take_input({});  // What came behind the handshake.
}

bool MeshLink::found_ourselves(const crypto::NodePublic& relay_key) {
  if (relay_key != shared_.public_key) return false;
  MeshConnector& connector = connector_;
  close();
  connector.on_ourselves();
  return true;
}

void MeshLink::send_session_output() {
  const auto output = session_->take_output();
  if (!output.empty()) send_side_.send(output, scratch_);
}

void MeshLink::on_logged_in() {
  if (found_ourselves(session_->relay_key())) return;
  phase_ = Phase::kUp;
  Identity identity;
  identity.id = shared_.directory.next_id();
  identity.key = session_->relay_key();
  identity.is_mesh_link = true;
  identity.connected_at = scratch_.now;
  set_identity(std::move(identity));
  worker_.timers().arm(deadline_, scratch_.now + kSilenceMax);
  send_side_.send(derp::kWatchConnsFrame, scratch_);
}

// --- Input

void MeshLink::take_input(std::span<const std::uint8_t> input) {
  ByteBuffer& plain = scratch_.plain;
  for (;;) {
    plain.clear();
    const auto opened = send_side_.open(input, scratch_);
    input = {};
    if (!take_frames(plain.bytes())) return;
    switch (opened.status) {
      case net::Transport::Opened::kOutputFull:
        continue;
      case net::Transport::Opened::kNeedsInput:
        return;
      case net::Transport::Opened::kClosed:
        return fail(session_->ended());
      case net::Transport::Opened::kFailed:
        return fail(failure_of(Layer::kTls, send_side_.failure()));
    }
  }
}

bool MeshLink::take_frames(std::span<const std::uint8_t> plaintext) {
  for (;;) {
    const auto frame = session_->next(&plaintext);
    if (!frame) {
      fail(frame.error());
      return false;
    }
    if (phase_ == Phase::kLogin) {
      send_session_output();
      if (session_->is_open()) on_logged_in();
      if (phase_ == Phase::kClosed) return false;
      if (phase_ == Phase::kUp && !plaintext.empty()) continue;
    }
    if (!*frame) return true;
    handle_frame(**frame);
  }
}

void MeshLink::handle_frame(const client::Frame& frame) {
  switch (frame.type) {
    case derp::FrameType::kPeerPresent:
      on_peer_present(frame.payload);
      return;
    case derp::FrameType::kPeerGone:
      // For any reason: NotHere answers a packet that we forwarded to where nobody is.
      if (const auto gone = derp::read_peer_gone(frame.payload))
        worker_.announce_departure(gone->peer,
                                   shared_.directory.remove_mesh_key(*this, gone->peer));
      return;
    default:
      // KeepAlive has done its work by arriving; the rest is for clients.
      return;
  }
}

void MeshLink::on_peer_present(std::span<const std::uint8_t> payload) {
  const auto present = derp::read_peer_present(payload);
  if (!present) return;
  shared_.directory.add_mesh_key(*this, present->peer);
  // The flood holds at least ourselves, so this comes as soon as the mesh key was taken.
  if (std::exchange(is_watching_, true)) return;
  scratch_.counters.mesh_links_up.add();
  connector_.on_watching(*this);
}

// --- Time and the end

void MeshLink::on_deadline(TimePoint now) {
  if (phase_ == Phase::kUp && now < last_received_ + kSilenceMax) {
    worker_.timers().arm(deadline_, last_received_ + kSilenceMax);
    return;
  }
  const auto seconds = [](Duration duration) {
    return std::chrono::duration_cast<std::chrono::seconds>(duration).count();
  };
  Failure failure = failure_of(Layer::kRelay, {});
  switch (phase_) {
    case Phase::kConnect:
      failure = failure_of(Layer::kTcp, fmt::format("{} did not answer within {} s",
                                                    address_.text(), seconds(kConnectTimeout)));
      break;
    case Phase::kTlsHandshake:
    case Phase::kLogin:
      failure = failure_of(phase_ == Phase::kLogin ? Layer::kLogin : Layer::kTls,
                           fmt::format("was not over within {} s", seconds(kLinkLoginTimeout)));
      break;
    case Phase::kUp:
      failure =
          failure_of(Layer::kRelay, fmt::format("nothing came for {} s", seconds(kSilenceMax)));
      break;
    case Phase::kClosed:
      return;
  }
  failure.timed_out = true;
  fail(std::move(failure));
}

void MeshLink::wait_until_writable(int fd) {
  worker_.poller().modify(fd, kEvents, *this);
}

void MeshLink::on_blocked(WorkerScratch& scratch) {
  if (&scratch == &scratch_) {
    watch_write(scratch.now);
  } else {
    connector_.post_watch_write();
  }
}

void MeshLink::watch_write(TimePoint now) {
  if (phase_ != Phase::kClosed && !write_check_.is_armed())
    worker_.timers().arm(write_check_, now + kLinkWriteTimeout);
}

void MeshLink::on_write_check(TimePoint now) {
  const auto stall = send_side_.stall(scratch_);
  if (!stall.blocked) return;
  const TimePoint due = stall.last_progress + kLinkWriteTimeout;
  if (now < due) return worker_.timers().arm(write_check_, due);
  Failure failure = failure_of(
      Layer::kRelay,
      fmt::format("took no data for {} s",
                  std::chrono::duration_cast<std::chrono::seconds>(kLinkWriteTimeout).count()));
  failure.timed_out = true;
  fail(std::move(failure));
}

void MeshLink::fail(Failure failure) {
  if (phase_ == Phase::kClosed) return;
  const bool refused_to_tell = phase_ == Phase::kUp && !is_watching_ && !failure.timed_out;
  if (refused_to_tell)
    failure.message = "it took our login but not our mesh key: both relays need the same one";
  const bool was_watching = is_watching_;
  close();
  connector_.on_failed(*this, std::move(failure), was_watching);
}

void MeshLink::close() {
  if (phase_ == Phase::kClosed) return;
  phase_ = Phase::kClosed;
  worker_.timers().disarm(deadline_);
  worker_.timers().disarm(write_check_);
  for (auto& [key, departure] : shared_.directory.remove_mesh_link(*this))
    worker_.announce_departure(key, std::move(departure));
  if (is_watching_) scratch_.counters.mesh_links_up.sub();
  send_side_.close(scratch_, SendSide::Ending::kAnnounced);
  session_.reset();
  // Our callers are still at work on this object; nobody goes away before the end of the turn.
  shared_.quiescence.retire(std::unique_ptr<Retirable>(this));
}

}  // namespace detour::server
