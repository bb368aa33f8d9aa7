#include "server/websocket_transport.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace detour::server {

net::Transport::OpenResult WebSocketTransport::open(std::span<std::uint8_t> out, ByteBuffer& sink) {
  if (!early_.empty()) {
    DETOUR_CHECK(early_.size() <= out.size());
    std::ranges::copy(early_, out.begin());
    const std::size_t size = std::exchange(early_, {}).size();
    return decode(out.first(size), Opened::kOutputFull, sink);
  }
  const OpenResult opened = inner_->open(out, sink);
  OpenResult decoded = decode(out.first(opened.size), opened.status, sink);
  decoded.unread = opened.unread;
  return decoded;
}

net::Transport::OpenResult WebSocketTransport::decode(std::span<std::uint8_t> bytes, Opened status,
                                                      ByteBuffer& sink) {
  const std::size_t size = socket_.decode(bytes);
  ByteBuffer& answers = socket_.answers();
  if (!answers.empty()) {
    if (!inner_->seal(answers.bytes(), sink)) status = Opened::kFailed;
    answers.clear();
  }
  if (socket_.ended() && !std::exchange(end_told_, true))
    status = socket_.ended_in_order() ? Opened::kClosed : Opened::kFailed;
  return {.size = size, .status = status};
}

bool WebSocketTransport::seal(std::span<const std::uint8_t> plaintext, ByteBuffer& sink) {
  if (socket_.close_sent()) return true;
  messages_.clear();
  http::WebSocket::append_messages(plaintext, messages_);
  return inner_->seal(messages_.bytes(), sink);
}

void WebSocketTransport::seal_close(ByteBuffer& sink) {
  ByteBuffer frame;
  socket_.append_close(close_code_, frame);
  if (!frame.empty()) (void)inner_->seal(frame.bytes(), sink);
  inner_->seal_close(sink);
}

std::string WebSocketTransport::failure() const {
  return socket_.ended() ? std::string(socket_.failure()) : inner_->failure();
}

}  // namespace detour::server
