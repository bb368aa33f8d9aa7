#pragma once

#include <memory>
#include <string>
#include <vector>

#include "http/websocket.h"
#include "net/transport.h"

namespace detour::server {

/// The layer between a connection's TLS (or nothing) and its frames that puts them into WebSocket
/// messages: one more Transport around the one that was there, so that connections without it do
/// not pay for it. Each batch becomes one message, or a few when it is large.
class WebSocketTransport final : public net::Transport {
 public:
  /// `early` came behind the request's head and was opened by `inner` already.
  WebSocketTransport(std::unique_ptr<net::Transport> inner, std::span<const std::uint8_t> early)
      : inner_(std::move(inner)), early_(early.begin(), early.end()) {}

  void feed(std::span<const std::uint8_t> input) override { inner_->feed(input); }
  Handshake handshake(ByteBuffer& /*sink*/) override { return Handshake::kDone; }
  OpenResult open(std::span<std::uint8_t> out, ByteBuffer& sink) override;
  bool seal(std::span<const std::uint8_t> plaintext, ByteBuffer& sink) override;
  void seal_close(ByteBuffer& sink) override;
  [[nodiscard]] std::string failure() const override;
  [[nodiscard]] Version version() const override { return inner_->version(); }

  /// While the socket takes nothing, pings are not answered: nobody could bound what piles up.
  /// Owner only.
  void hold_answers(bool hold) { socket_.drop_answers(hold); }

  /// What the close frame says when the stream ends; 1000 if not set. Owner only, before login.
  void close_with(http::WebSocketClose code) { close_code_ = code; }

 private:
  OpenResult decode(std::span<std::uint8_t> bytes, Opened status, ByteBuffer& sink);

  const std::unique_ptr<net::Transport> inner_;
  std::vector<std::uint8_t> early_;
  http::WebSocket socket_;
  ByteBuffer messages_;
  bool end_told_ = false;  ///< The end is reported once; what comes behind it is thrown away.
  http::WebSocketClose close_code_ = http::WebSocketClose::kNormal;
};

}  // namespace detour::server
