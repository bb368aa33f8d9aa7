#include "load/connection.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

namespace detour::load {

namespace {

std::unexpected<client::Failure> socket_failure(client::Layer layer, std::string_view what,
                                                int error) {
  return std::unexpected(
      client::Failure{.layer = layer,
                      .message = fmt::format("{}: {}", what, std::strerror(error)),
                      .system_error = error});
}

}  // namespace

Connection::~Connection() {
  if (fd_ >= 0) ::close(fd_);
}

client::Outcome<void> Connection::start(int epoll_fd, std::uint32_t index) {
  fd_ = settings_.target->connect(SOCK_STREAM, index);
  if (fd_ < 0) return socket_failure(client::Layer::kTcp, "connect", errno);
  epoll_event event{};
  event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
  event.data.ptr = this;
  if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd_, &event) != 0)
    return socket_failure(client::Layer::kTcp, "epoll_ctl", errno);
  if (settings_.context != nullptr)
    tls_.emplace(*settings_.context, settings_.target->host(), settings_.server_name);
  return {};
}

client::Outcome<void> Connection::finish_connect() {
  int error = 0;
  socklen_t size = sizeof error;
  if (getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
  if (error != 0) return socket_failure(client::Layer::kTcp, "connect", error);
  connected_ = true;
  if (!tls_) return begin_session();
  return go_on_with_handshake();
}

client::Outcome<void> Connection::go_on_with_handshake() {
  const auto status = tls_->handshake();
  if (status == client::TlsStream::Status::kDone) return begin_session();
  // An alert that explains the failure goes out as well.
  const auto flushed = flush();
  if (status != client::TlsStream::Status::kNeedsInput) return std::unexpected(tls_->failure());
  return flushed;
}

client::Outcome<void> Connection::begin_session() {
  const bool fast = settings_.fast_start && tls_ && tls_->is_tls13();
  session_.emplace(client::SessionOptions{
      .key = key_,
      .host = settings_.target->host_and_port(),
      .relay_key = fast ? tls_->meta_key() : std::nullopt,
  });
  return send_session_output();
}

client::Outcome<void> Connection::send_session_output() {
  const auto output = session_->take_output();
  if (!output.empty()) {
    if (auto sealed = seal(output); !sealed) return sealed;
  }
  return flush();
}

client::Outcome<void> Connection::seal(std::span<const std::uint8_t> frames) {
  if (!tls_) {
    plain_.insert(plain_.end(), frames.begin(), frames.end());
    return {};
  }
  if (!tls_->write(frames)) return std::unexpected(tls_->failure());
  return {};
}

client::Outcome<void> Connection::flush() {
  for (;;) {
    const auto output = unsent();
    if (output.empty()) return {};
    const ssize_t size = ::send(fd_, output.data(), output.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (size < 0) {
      if (errno == EAGAIN) return {};
      if (errno == EINTR) continue;
      return socket_failure(client::Layer::kRelay, "send", errno);
    }
    sent(static_cast<std::size_t>(size));
  }
}

void Connection::sent(std::size_t size) {
  if (tls_) {
    tls_->output_sent(size);
    return;
  }
  plain_sent_ += size;
  if (plain_sent_ < plain_.size()) return;
  plain_.clear();
  plain_sent_ = 0;
}

std::string Connection::transport_name() const {
  if (!tls_) return "no TLS";
  return fmt::format("{} {}", tls_->version_name(), tls_->cipher_name());
}

void Connection::close() {
  if (fd_ < 0) return;
  if (connected_) {
    if (tls_) tls_->close();
    [[maybe_unused]] const auto unsent_is_lost = flush();
  }
  ::close(fd_);
  fd_ = -1;
}

client::Outcome<std::size_t> Connection::receive(std::span<std::uint8_t> into) {
  for (;;) {
    const ssize_t size = ::recv(fd_, into.data(), into.size(), MSG_DONTWAIT);
    if (size > 0) return static_cast<std::size_t>(size);
    if (size == 0) {
      if (session_) return std::unexpected(session_->ended());
      return client::give_up(client::Layer::kTls, "the connection was closed in the handshake");
    }
    if (errno == EAGAIN) return 0;
    if (errno == EINTR) continue;
    return socket_failure(session_ ? client::Layer::kRelay : client::Layer::kTls, "recv", errno);
  }
}

}  // namespace detour::load
