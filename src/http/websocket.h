#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/byte_buffer.h"
#include "http/message.h"

/// WebSocket (RFC 6455) as far as a relay needs it: the server's side of the handshake, and a byte
/// stream inside binary messages. No I/O.
namespace detour::http {

/// Messages in both directions hold at most this much: browsers' clients take no larger ones.
inline constexpr std::size_t kWebSocketMessageMax = 32768;

/// Why a WebSocket ends (RFC 6455 section 7.4.1).
enum class WebSocketClose : std::uint16_t {
  kNormal = 1000,
  kGoingAway = 1001,
  kProtocolError = 1002,
  kUnsupportedData = 1003,
  kPolicyViolation = 1008,
  kMessageTooBig = 1009,
};

/// Whether one of the comma-separated values of the header `name` is `token`, in any case. All
/// headers of that name count.
[[nodiscard]] bool header_has_token(const Request& request, std::string_view name,
                                    std::string_view token);

/// What a request that asks for a WebSocket gets: 101, or the error that says what is wrong with
/// it.
struct WebSocketHandshake {
  bool accepted = false;
  /// The chosen subprotocol as the client wrote it; empty when it did not offer it.
  std::string subprotocol;
  Response response;  ///< For the wire when !accepted.
  std::string head;   ///< For the wire when accepted: the 101 with its empty line.
};
/// Any Origin may: a DERP client proves itself by its key, not by a cookie. Extensions are never
/// agreed on.
[[nodiscard]] WebSocketHandshake accept_websocket(const Request& request,
                                                  std::string_view subprotocol);

/// The frames of one WebSocket, the server's side.
///
/// Incoming binary messages are one byte stream; where one ends means nothing. Pings are answered,
/// text ends the connection with 1003, a message over kWebSocketMessageMax with 1009, and whatever
/// breaks the protocol (no mask, reserved bits, stray continuations) with 1002.
/// Not thread-safe. About 5 KiB.
class WebSocket {
 public:
  WebSocket();
  ~WebSocket();
  WebSocket(const WebSocket&) = delete;
  WebSocket& operator=(const WebSocket&) = delete;

  /// Takes bytes as they came and overwrites their front with the stream's bytes that they hold.
  /// Gives how many those are. Partial frames are remembered; nothing is taken after ended().
  [[nodiscard]] std::size_t decode(std::span<std::uint8_t> bytes);

  /// Frames that decode() made: pongs, the answer to a close. To be sent, then cleared.
  [[nodiscard]] ByteBuffer& answers() { return answers_; }
  /// While the peer does not read, pongs are not worth keeping.
  void drop_answers(bool drop) { drop_answers_ = drop; }

  /// The peer closed, or was closed for a fault: the answers hold our close frame.
  [[nodiscard]] bool ended() const { return ended_; }
  /// Whether that was the peer's own wish.
  [[nodiscard]] bool ended_in_order() const { return ended_ && in_order_; }
  /// Why, for the log.
  [[nodiscard]] std::string_view failure() const { return failure_; }

  /// Appends `payload` in as many binary messages as it takes.
  static void append_messages(std::span<const std::uint8_t> payload, ByteBuffer& out);
  /// Nothing may follow our close frame.
  [[nodiscard]] bool close_sent() const { return close_sent_; }
  /// Appends a close frame, unless one was sent before.
  void append_close(WebSocketClose code, ByteBuffer& out);

 private:
  struct Library;  ///< What wslay calls back.

  void end(WebSocketClose code, std::string_view failure);

  struct ContextDeleter {
    void operator()(void* context) const;
  };
  std::unique_ptr<void, ContextDeleter> context_;

  // During decode().
  std::span<std::uint8_t> bytes_;
  std::size_t read_ = 0;
  std::size_t written_ = 0;

  ByteBuffer answers_;
  std::uint64_t message_size_ = 0;
  bool in_data_frame_ = false;
  bool drop_answers_ = false;
  bool ended_ = false;
  bool in_order_ = false;
  bool close_sent_ = false;
  std::string_view failure_;
};

}  // namespace detour::http
