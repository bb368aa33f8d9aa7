#include "client/client.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "base/check.h"
#include "client/dial.h"

namespace detour::client {

namespace {

constexpr std::size_t kReadSize = 64 * 1024;
/// A TLS record holds at most this much plaintext.
constexpr std::size_t kRecordPlaintextMax = 16 * 1024;
/// Packets kept while ping() waits; the oldest go first.
constexpr std::size_t kEarlyPacketsMax = 1024;

bool is_ip_address(const std::string& host) {
  in6_addr address{};
  return inet_pton(AF_INET, host.c_str(), &address) == 1 ||
         inet_pton(AF_INET6, host.c_str(), &address) == 1;
}

std::string server_name_for(const DialOptions& options) {
  if (options.server_name) return *options.server_name;
  return is_ip_address(options.host) ? std::string() : options.host;
}

/// For the Host header: IPv6 in brackets, the port only when it is not the usual one.
std::string host_header(const DialOptions& options) {
  const bool is_ipv6 = options.host.find(':') != std::string::npos;
  std::string host = is_ipv6 ? fmt::format("[{}]", options.host) : options.host;
  if (options.port != 443) host += fmt::format(":{}", options.port);
  return host;
}

Packet copy_packet(const derp::RecvPacket& packet) {
  return {.source = packet.source, .bytes = {packet.packet.begin(), packet.packet.end()}};
}

}  // namespace

Outcome<std::unique_ptr<Client>> Client::dial(const DialOptions& options) {
  const TimePoint deadline = Clock::now() + options.timeout;
  std::unique_ptr<Client> client(new Client);
  if (auto done = client->connect(options, deadline); !done)
    return std::unexpected(std::move(done.error()));
  if (options.use_tls) {
    if (auto done = client->do_tls(options, deadline); !done)
      return std::unexpected(std::move(done.error()));
  }
  if (auto done = client->log_in(options, deadline); !done)
    return std::unexpected(std::move(done.error()));
  return client;
}

Client::~Client() {
  close();
}

Outcome<void> Client::connect(const DialOptions& options, TimePoint deadline) {
  const TimePoint start = Clock::now();
  const std::string& address = options.address.empty() ? options.host : options.address;
  auto connection = dial_tcp(address, options.port, deadline, options.receive_buffer);
  if (!connection) return std::unexpected(std::move(connection.error()));
  fd_ = std::move(connection->fd);
  relay_.address = std::move(connection->address);
  relay_.times.tcp = Clock::now() - start;
  received_.resize(kReadSize);
  return {};
}

Outcome<void> Client::do_tls(const DialOptions& options, TimePoint deadline) {
  const TimePoint start = Clock::now();
  auto context = TlsContext::create(options.tls);
  if (!context) return std::unexpected(std::move(context.error()));
  tls_context_ = std::move(*context);
  tls_.emplace(*tls_context_, options.host, server_name_for(options));
  plaintext_.resize(kRecordPlaintextMax);
  for (;;) {
    const auto status = tls_->handshake();
    const auto flushed = flush_tls(deadline);
    if (status == TlsStream::Status::kDone) break;
    if (status != TlsStream::Status::kNeedsInput) return std::unexpected(tls_->failure());
    if (!flushed) return flushed;
    const auto arrived = read_socket(deadline);
    if (!arrived) return std::unexpected(arrived.error());
    if (!*arrived)
      return std::unexpected(Failure{.layer = Layer::kTls,
                                     .message = "the handshake was not over in time",
                                     .timed_out = true});
    tls_->set_input(unread_);
    unread_ = {};
  }
  relay_.tls_version = tls_->version_name();
  relay_.cipher = tls_->cipher_name();
  relay_.leaf_sha256 = tls_->leaf_sha256();
  relay_.has_meta_certificate = tls_->meta_key().has_value();
  relay_.times.tls = Clock::now() - start;
  return {};
}

Outcome<void> Client::log_in(const DialOptions& options, TimePoint deadline) {
  const TimePoint start = Clock::now();
  SessionOptions session{.key = options.key,
                         .host = host_header(options),
                         .path = options.path,
                         .ideal_node = options.ideal_node,
                         .info = options.info};
  // As official clients do: fast start needs TLS 1.3 and the relay's key beforehand.
  if (options.fast_start && tls_ && tls_->is_tls13()) session.relay_key = tls_->meta_key();
  session_.emplace(std::move(session));
  relay_.used_fast_start = session_->used_fast_start();

  while (!session_->is_open()) {
    const auto output = session_->take_output();
    if (auto sent = send_all(output, deadline); !sent) return sent;
    if (unread_.empty()) {
      const auto arrived = read_plaintext(deadline);
      if (!arrived) return std::unexpected(arrived.error());
      if (!*arrived) {
        Failure failure = session_->ended();
        failure.message = "no answer came in time";
        failure.timed_out = true;
        return std::unexpected(std::move(failure));
      }
    }
    // Stops behind ServerInfo: frames behind it stay for receive().
    auto frame = session_->next(&unread_);
    if (!frame) return std::unexpected(std::move(frame.error()));
    DETOUR_CHECK(!*frame);
  }
  relay_.key = session_->relay_key();
  relay_.times.login = Clock::now() - start;
  return {};
}

Outcome<void> Client::send(const crypto::NodePublic& destination,
                           std::span<const std::uint8_t> packet, Duration timeout) {
  DETOUR_CHECK(packet.size() <= derp::kPacketSizeMax);
  std::vector<std::uint8_t> frame(derp::kRecvPacketHeadSize + packet.size());
  derp::write_send_packet_head(std::span(frame).first<derp::kRecvPacketHeadSize>(), destination,
                               packet.size());
  std::ranges::copy(packet, frame.begin() + derp::kRecvPacketHeadSize);
  return send_raw(frame, timeout);
}

Outcome<void> Client::send_raw(std::span<const std::uint8_t> bytes, Duration timeout) {
  return send_all(bytes, Clock::now() + timeout);
}

Outcome<std::optional<Frame>> Client::receive(Duration timeout) {
  return next_frame(Clock::now() + timeout);
}

Outcome<std::optional<Packet>> Client::receive_packet(Duration timeout) {
  if (!early_packets_.empty()) {
    Packet packet = std::move(early_packets_.front());
    early_packets_.pop_front();
    return packet;
  }
  const TimePoint deadline = Clock::now() + timeout;
  for (;;) {
    const auto frame = next_frame(deadline);
    if (!frame) return std::unexpected(frame.error());
    if (!*frame) return std::nullopt;
    if ((*frame)->type != derp::FrameType::kRecvPacket) continue;
    const auto packet = derp::read_recv_packet((*frame)->payload);
    if (!packet) return give_up(Layer::kRelay, std::string(describe(packet.error().code)));
    return copy_packet(*packet);
  }
}

Outcome<Duration> Client::ping(Duration timeout) {
  const TimePoint start = Clock::now();
  derp::PingData data{};
  crypto::random_bytes(data);
  if (auto sent = send_raw(derp::encode_ping(data), timeout); !sent)
    return std::unexpected(sent.error());
  for (;;) {
    const auto frame = next_frame(start + timeout);
    if (!frame) return std::unexpected(frame.error());
    if (!*frame)
      return std::unexpected(
          Failure{.layer = Layer::kRelay, .message = "no Pong came in time", .timed_out = true});
    const auto& [type, payload] = **frame;
    if (type == derp::FrameType::kPong && std::ranges::equal(payload, data))
      return Clock::now() - start;
    if (type != derp::FrameType::kRecvPacket) continue;
    if (const auto packet = derp::read_recv_packet(payload)) {
      if (early_packets_.size() == kEarlyPacketsMax) early_packets_.pop_front();
      early_packets_.push_back(copy_packet(*packet));
    }
  }
}

void Client::close() {
  if (!fd_) return;
  if (tls_) {
    tls_->close();
    const auto output = tls_->output();
    (void)::send(fd_.get(), output.data(), output.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  }
  fd_.reset();
}

void Client::abort() {
  if (!fd_) return;
  const linger at_once{.l_onoff = 1, .l_linger = 0};
  (void)setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  fd_.reset();
}

Outcome<std::optional<Frame>> Client::next_frame(TimePoint deadline) {
  for (;;) {
    auto frame = session_->next(&unread_);
    if (!frame || *frame) return frame;
    const auto arrived = read_plaintext(deadline);
    if (!arrived) return std::unexpected(arrived.error());
    if (!*arrived) return std::nullopt;
  }
}

Outcome<void> Client::send_all(std::span<const std::uint8_t> plaintext, TimePoint deadline) {
  if (plaintext.empty()) return {};
  if (!fd_) return std::unexpected(ended());
  if (!tls_) return write_socket(&plaintext, deadline);
  if (!tls_->write(plaintext)) return std::unexpected(tls_->failure());
  return flush_tls(deadline);
}

Outcome<void> Client::flush_tls(TimePoint deadline) {
  auto unsent = tls_->output();
  const std::size_t size = unsent.size();
  if (size == 0) return {};
  auto written = write_socket(&unsent, deadline);
  tls_->output_sent(size - unsent.size());
  return written;
}

Outcome<void> Client::write_socket(std::span<const std::uint8_t>* bytes, TimePoint deadline) {
  while (!bytes->empty()) {
    const ssize_t size =
        ::send(fd_.get(), bytes->data(), bytes->size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (size >= 0) {
      *bytes = bytes->subspan(static_cast<std::size_t>(size));
      continue;
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN) {
      Failure failure = ended();
      failure.system_error = errno;
      return std::unexpected(std::move(failure));
    }
    if (!wait_for(fd_.get(), POLLOUT, deadline)) {
      Failure failure = ended();
      failure.message = "the relay takes no more bytes";
      failure.timed_out = true;
      return std::unexpected(std::move(failure));
    }
  }
  return {};
}

Outcome<bool> Client::read_socket(TimePoint deadline) {
  if (!fd_) return std::unexpected(ended());
  for (;;) {
    const ssize_t size = ::recv(fd_.get(), received_.data(), received_.size(), MSG_DONTWAIT);
    if (size > 0) {
      unread_ = std::span(received_).first(static_cast<std::size_t>(size));
      return true;
    }
    if (size == 0) return std::unexpected(ended());
    if (errno == EINTR) continue;
    if (errno != EAGAIN) {
      Failure failure = ended();
      failure.system_error = errno;
      return std::unexpected(std::move(failure));
    }
    if (!wait_for(fd_.get(), POLLIN, deadline)) return false;
  }
}

Outcome<bool> Client::read_plaintext(TimePoint deadline) {
  if (!tls_) return read_socket(deadline);
  for (;;) {
    const auto read = tls_->read(plaintext_);
    switch (read.status) {
      case TlsStream::Status::kDone:
        unread_ = std::span(plaintext_).first(read.size);
        return true;
      case TlsStream::Status::kClosed:
        return std::unexpected(ended());
      case TlsStream::Status::kFailed:
        return std::unexpected(tls_->failure());
      case TlsStream::Status::kNeedsInput:
        break;
    }
    // Reading may want to answer, for example to a request for new keys.
    if (auto flushed = flush_tls(deadline); !flushed) return std::unexpected(flushed.error());
    const auto arrived = read_socket(deadline);
    if (!arrived || !*arrived) return arrived;
    tls_->set_input(unread_);
    unread_ = {};
  }
}

Failure Client::ended() const {
  if (session_) return session_->ended();
  return {.layer = Layer::kTls, .message = "the connection was closed in the handshake"};
}

}  // namespace detour::client
