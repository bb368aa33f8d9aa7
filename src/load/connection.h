#pragma once

#include <sys/epoll.h>

#include <cerrno>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "client/failure.h"
#include "client/session.h"
#include "client/tls_stream.h"
#include "load/server_process.h"
#include "load/target.h"

namespace detour::load {

/// Buffers that all connections of one thread share.
struct Scratch {
  std::vector<std::uint8_t> ciphertext = std::vector<std::uint8_t>(256 * 1024);
  std::vector<std::uint8_t> plaintext = std::vector<std::uint8_t>(32 * 1024);
};

struct ConnectionSettings {
  const Target* target = nullptr;               ///< Outlives the connection.
  const client::TlsContext* context = nullptr;  ///< Outlives the connection; null: no TLS.
  std::string server_name = {};                 ///< SNI; empty sends none.
  bool fast_start = true;  ///< Where the relay presents its meta certificate on TLS 1.3.
};

/// One DERP client on a non-blocking socket under an edge-triggered epoll.
///
/// Owned by one thread. Logs in by itself as events arrive; then the owner sends and gets frames.
class Connection {
 public:
  Connection(const ConnectionSettings& settings, const crypto::NodePrivate& key,
             const crypto::NodePublic& public_key)
      : settings_(settings), key_(key), public_key_(public_key) {}
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  /// Connects and registers with `epoll_fd` under `this`. `index` picks the source address.
  [[nodiscard]] client::Outcome<void> start(int epoll_fd, std::uint32_t index);

  /// Acts on `events`. Calls `on_frame(frame, arrived_ns)` for each frame that came after login.
  template <typename OnFrame>
  [[nodiscard]] client::Outcome<void> on_events(std::uint32_t events, Scratch& scratch,
                                                OnFrame&& on_frame);

  /// Seals `frames` and keeps them for flush(). Requires is_open().
  [[nodiscard]] client::Outcome<void> seal(std::span<const std::uint8_t> frames);
  /// One send() of everything sealed, as a rule; more when the socket takes only a part.
  [[nodiscard]] client::Outcome<void> flush();
  /// close_notify and FIN, as a client that leaves does.
  void close();

  [[nodiscard]] bool is_connected() const { return connected_; }
  [[nodiscard]] bool is_open() const { return session_ && session_->is_open(); }
  /// The socket is full: do not seal more until events say so.
  [[nodiscard]] bool is_blocked() const { return !unsent().empty(); }
  [[nodiscard]] const crypto::NodePublic& public_key() const { return public_key_; }
  /// "TLSv1.3 TLS_AES_128_GCM_SHA256", or "no TLS".
  [[nodiscard]] std::string transport_name() const;
  [[nodiscard]] bool used_fast_start() const { return session_ && session_->used_fast_start(); }

 private:
  /// Cuts frames out of what the relay has said.
  template <typename OnFrame>
  [[nodiscard]] client::Outcome<void> take_plaintext(std::span<const std::uint8_t> bytes,
                                                     std::uint64_t arrived_ns, OnFrame&& on_frame);
  template <typename OnFrame>
  [[nodiscard]] client::Outcome<void> take_records(std::span<const std::uint8_t> ciphertext,
                                                   std::span<std::uint8_t> plaintext,
                                                   std::uint64_t arrived_ns, OnFrame&& on_frame);
  [[nodiscard]] std::span<const std::uint8_t> unsent() const {
    return tls_ ? tls_->output() : std::span(plain_).subspan(plain_sent_);
  }
  void sent(std::size_t size);
  [[nodiscard]] client::Outcome<void> finish_connect();
  [[nodiscard]] client::Outcome<void> go_on_with_handshake();
  /// Starts the DERP session once TLS stands, and sends what it wants to send.
  [[nodiscard]] client::Outcome<void> begin_session();
  [[nodiscard]] client::Outcome<void> send_session_output();
  /// Reads once. Gives the number of bytes, 0 when there are none for now.
  [[nodiscard]] client::Outcome<std::size_t> receive(std::span<std::uint8_t> into);

  ConnectionSettings settings_;
  crypto::NodePrivate key_;
  crypto::NodePublic public_key_;
  int fd_ = -1;
  bool connected_ = false;
  std::optional<client::TlsStream> tls_;
  std::vector<std::uint8_t> plain_;  ///< To be sent, where there is no TLS.
  std::size_t plain_sent_ = 0;       ///< Of those, the bytes that were.
  std::optional<client::Session> session_;
};

template <typename OnFrame>
client::Outcome<void> Connection::on_events(std::uint32_t events, Scratch& scratch,
                                            OnFrame&& on_frame) {
  if (!connected_) {
    if (auto result = finish_connect(); !result) return result;
    if (!connected_) return {};
  }
  if (events & EPOLLOUT) {
    if (auto result = flush(); !result) return result;
  }
  for (;;) {
    const auto size = receive(scratch.ciphertext);
    if (!size) return std::unexpected(size.error());
    if (*size == 0) return {};
    const std::uint64_t arrived_ns = now_ns();
    const auto bytes = std::span<const std::uint8_t>(scratch.ciphertext).first(*size);
    const auto taken = tls_ ? take_records(bytes, scratch.plaintext, arrived_ns, on_frame)
                            : take_plaintext(bytes, arrived_ns, on_frame);
    if (!taken) return taken;
    if (!session_) continue;
    if (auto result = send_session_output(); !result) return result;
    // A short read has emptied the socket, unless the other side has closed it too.
    if (*size < scratch.ciphertext.size() && !(events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)))
      return {};
  }
}

template <typename OnFrame>
client::Outcome<void> Connection::take_records(std::span<const std::uint8_t> ciphertext,
                                               std::span<std::uint8_t> plaintext,
                                               std::uint64_t arrived_ns, OnFrame&& on_frame) {
  tls_->set_input(ciphertext);
  if (!session_) {
    if (auto result = go_on_with_handshake(); !result) return result;
    if (!session_) return {};
  }
  for (;;) {
    const auto read = tls_->read(plaintext);
    if (read.status == client::TlsStream::Status::kNeedsInput) return {};
    if (read.status == client::TlsStream::Status::kClosed)
      return std::unexpected(session_->ended());
    if (read.status == client::TlsStream::Status::kFailed) return std::unexpected(tls_->failure());
    if (auto result = take_plaintext(plaintext.first(read.size), arrived_ns, on_frame); !result)
      return result;
  }
}

template <typename OnFrame>
client::Outcome<void> Connection::take_plaintext(std::span<const std::uint8_t> bytes,
                                                 std::uint64_t arrived_ns, OnFrame&& on_frame) {
  while (!bytes.empty()) {
    auto frame = session_->next(&bytes);
    if (!frame) return std::unexpected(frame.error());
    if (*frame) on_frame(**frame, arrived_ns);
  }
  return {};
}

}  // namespace detour::load
