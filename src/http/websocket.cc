#include "http/websocket.h"

#include <openssl/evp.h>
#include <wslay/wslay.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

#include "base/bytes.h"
#include "base/check.h"

namespace detour::http {
namespace {

// Opcodes of our own frames with the FIN bit (RFC 6455 section 5.2).
constexpr std::uint8_t kFinBinary = 0x82;
constexpr std::uint8_t kFinClose = 0x88;
/// Payload lengths up to here fit into the second byte; then comes a 16-bit length behind a 126.
constexpr std::size_t kShortLengthMax = 125;
constexpr std::uint8_t kLength16 = 126;
static_assert(kWebSocketMessageMax <= 0xffff);

constexpr std::size_t kNonceSize = 16;
constexpr std::size_t kSha1Size = 20;

[[nodiscard]] std::string_view trim(std::string_view text) {
  constexpr std::string_view kBlank = " \t";
  const std::size_t begin = text.find_first_not_of(kBlank);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlank) - begin + 1);
}

/// The comma-separated values of all headers `name`: the first that is `token` in any case.
[[nodiscard]] std::string_view find_token(const Request& request, std::string_view name,
                                          std::string_view token) {
  for (const auto& [own_name, value] : request.headers) {
    if (!equals_ignoring_case(own_name, name)) continue;
    for (std::string_view rest = value; !rest.empty();) {
      const std::size_t end = std::min(rest.find(','), rest.size());
      const std::string_view one = trim(rest.substr(0, end));
      rest.remove_prefix(std::min(end + 1, rest.size()));
      if (equals_ignoring_case(one, token)) return one;
    }
  }
  return {};
}

/// Base64 of exactly 16 bytes.
[[nodiscard]] bool is_nonce(std::string_view text) {
  constexpr std::size_t kTextSize = (kNonceSize + 2) / 3 * 4;
  if (text.size() != kTextSize || !text.ends_with("==") || text.substr(0, 22).contains('=')) {
    return false;
  }
  std::array<unsigned char, kTextSize> decoded{};
  return EVP_DecodeBlock(decoded.data(), reinterpret_cast<const unsigned char*>(text.data()),
                         static_cast<int>(text.size())) >= 0;
}

/// Sec-WebSocket-Accept (RFC 6455 section 4.2.2).
[[nodiscard]] std::string accept_value(std::string_view key) {
  const std::string text = std::string(key) + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  DETOUR_CHECK(EVP_Digest(text.data(), text.size(), digest.data(), &size, EVP_sha1(), nullptr) ==
               1);
  DETOUR_CHECK(size == kSha1Size);
  std::array<unsigned char, (kSha1Size + 2) / 3 * 4 + 1> encoded{};
  const int encoded_size = EVP_EncodeBlock(encoded.data(), digest.data(), static_cast<int>(size));
  return {reinterpret_cast<const char*>(encoded.data()), static_cast<std::size_t>(encoded_size)};
}

[[nodiscard]] WebSocketHandshake refuse(unsigned status, std::string_view message) {
  return {.accepted = false,
          .subprotocol = {},
          .response = text_error(status, "WebSocket handshake: " + std::string(message)),
          .head = {}};
}

}  // namespace

bool header_has_token(const Request& request, std::string_view name, std::string_view token) {
  return !find_token(request, name, token).empty();
}

WebSocketHandshake accept_websocket(const Request& request, std::string_view subprotocol) {
  if (request.version < 11) return refuse(426, "HTTP/1.1 is needed");
  if (!header_has_token(request, "Connection", "Upgrade") ||
      !header_has_token(request, "Upgrade", "websocket")) {
    auto refused = refuse(426, "a proxy in front must pass on the headers Connection and Upgrade");
    // Said by Connection: Upgrade, which is what the client has to send.
    refused.response.with("Connection", "Upgrade").with("Upgrade", "websocket");
    return refused;
  }
  if (request.method != "GET") return refuse(405, "the method has to be GET");
  if (request.header("Sec-WebSocket-Version") != "13") {
    auto refused = refuse(400, "only version 13 is spoken here");
    refused.response.with("Sec-WebSocket-Version", "13");
    return refused;
  }
  const auto keys = std::ranges::count_if(request.headers, [](const auto& field) {
    return equals_ignoring_case(field.first, "Sec-WebSocket-Key");
  });
  const std::string_view key = trim(request.header("Sec-WebSocket-Key"));
  if (keys != 1 || !is_nonce(key)) {
    return refuse(400, "one Sec-WebSocket-Key is needed: 16 bytes in base64");
  }

  WebSocketHandshake handshake{
      .accepted = true,
      .subprotocol = std::string(find_token(request, "Sec-WebSocket-Protocol", subprotocol)),
      .response = {},
      .head = {}};
  handshake.head =
      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
      "Sec-WebSocket-Accept: " +
      accept_value(key) + "\r\n";
  if (!handshake.subprotocol.empty()) {
    handshake.head += "Sec-WebSocket-Protocol: " + handshake.subprotocol + "\r\n";
  }
  handshake.head += "\r\n";
  return handshake;
}

// --- Frames -------------------------------------------------------------------------------------

struct WebSocket::Library {
  static WebSocket& self(void* user_data) { return *static_cast<WebSocket*>(user_data); }
  static wslay_event_context_ptr context(const WebSocket& socket) {
    return static_cast<wslay_event_context_ptr>(socket.context_.get());
  }

  static ssize_t receive(wslay_event_context_ptr context, std::uint8_t* buffer, std::size_t size,
                         int /*flags*/, void* user_data) {
    WebSocket& socket = self(user_data);
    const std::size_t taken = std::min(size, socket.bytes_.size() - socket.read_);
    if (taken == 0) {
      wslay_event_set_error(context, WSLAY_ERR_WOULDBLOCK);
      return -1;
    }
    std::memcpy(buffer, socket.bytes_.data() + socket.read_, taken);
    socket.read_ += taken;
    return static_cast<ssize_t>(taken);
  }

  static ssize_t send(wslay_event_context_ptr /*context*/, const std::uint8_t* data,
                      std::size_t size, int /*flags*/, void* user_data) {
    WebSocket& socket = self(user_data);
    if (!socket.drop_answers_) socket.answers_.append({data, size});
    return static_cast<ssize_t>(size);
  }

  static void on_frame(wslay_event_context_ptr /*context*/,
                       const wslay_event_on_frame_recv_start_arg* frame, void* user_data) {
    WebSocket& socket = self(user_data);
    socket.in_data_frame_ = !wslay_is_ctrl_frame(frame->opcode);
    if (!socket.in_data_frame_) return;
    if (frame->opcode == WSLAY_TEXT_FRAME) {
      socket.end(WebSocketClose::kUnsupportedData, "a text message came; DERP is binary");
      return;
    }
    if (frame->opcode != WSLAY_CONTINUATION_FRAME) socket.message_size_ = 0;
    if (frame->payload_length > kWebSocketMessageMax - socket.message_size_) {
      socket.end(WebSocketClose::kMessageTooBig, "a message of more than 32768 bytes came");
      return;
    }
    socket.message_size_ += frame->payload_length;
  }

  static void on_chunk(wslay_event_context_ptr /*context*/,
                       const wslay_event_on_frame_recv_chunk_arg* chunk, void* user_data) {
    WebSocket& socket = self(user_data);
    if (!socket.in_data_frame_ || socket.ended_ || chunk->data_length == 0) return;
    // What is written was read before: a frame is never smaller than its payload.
    DETOUR_CHECK(socket.written_ + chunk->data_length <= socket.read_);
    std::memcpy(socket.bytes_.data() + socket.written_, chunk->data, chunk->data_length);
    socket.written_ += chunk->data_length;
  }

  static void on_message(wslay_event_context_ptr /*context*/,
                         const wslay_event_on_msg_recv_arg* message, void* user_data) {
    WebSocket& socket = self(user_data);
    if (message->opcode != WSLAY_CONNECTION_CLOSE || socket.ended_) return;
    // The answer is queued by the library.
    socket.ended_ = true;
    socket.in_order_ = message->status_code == 0 ||
                       message->status_code == WSLAY_CODE_NORMAL_CLOSURE ||
                       message->status_code == WSLAY_CODE_GOING_AWAY;
    socket.failure_ = "the client closed the WebSocket with an error";
  }
};

void WebSocket::ContextDeleter::operator()(void* context) const {
  wslay_event_context_free(static_cast<wslay_event_context_ptr>(context));
}

WebSocket::WebSocket() {
  wslay_event_callbacks callbacks{};
  callbacks.recv_callback = &Library::receive;
  callbacks.send_callback = &Library::send;
  callbacks.on_frame_recv_start_callback = &Library::on_frame;
  callbacks.on_frame_recv_chunk_callback = &Library::on_chunk;
  callbacks.on_msg_recv_callback = &Library::on_message;
  wslay_event_context_ptr context = nullptr;
  DETOUR_CHECK(wslay_event_context_server_init(&context, &callbacks, this) == 0);
  context_.reset(context);
  wslay_event_config_set_no_buffering(context, 1);
  // The limit is ours: it counts whole messages.
  wslay_event_config_set_max_recv_msg_length(context, std::numeric_limits<std::int64_t>::max());
}

WebSocket::~WebSocket() = default;

void WebSocket::end(WebSocketClose code, std::string_view failure) {
  if (ended_) return;
  ended_ = true;
  failure_ = failure;
  const auto context = Library::context(*this);
  (void)wslay_event_queue_close(context, static_cast<std::uint16_t>(code), nullptr, 0);
  wslay_event_shutdown_read(context);
}

std::size_t WebSocket::decode(std::span<std::uint8_t> bytes) {
  if (ended_) return 0;
  bytes_ = bytes;
  read_ = 0;
  written_ = 0;
  const auto context = Library::context(*this);
  const int received = wslay_event_recv(context);
  if (!ended_ && (received != 0 || wslay_event_get_read_enabled(context) == 0)) {
    // The library found a fault. For some it queues a close frame without a code: ours has one.
    ended_ = true;
    failure_ = "the WebSocket protocol was broken";
    append_close(WebSocketClose::kProtocolError, answers_);
  }
  if (!close_sent_ && wslay_event_want_write(context) != 0) (void)wslay_event_send(context);
  if (ended_) close_sent_ = true;
  bytes_ = {};
  return written_;
}

void WebSocket::append_messages(std::span<const std::uint8_t> payload, ByteBuffer& out) {
  while (!payload.empty()) {
    const auto message = payload.first(std::min(payload.size(), kWebSocketMessageMax));
    payload = payload.subspan(message.size());
    std::array<std::uint8_t, 4> head{kFinBinary};
    std::size_t head_size = 2;
    if (message.size() <= kShortLengthMax) {
      head[1] = static_cast<std::uint8_t>(message.size());
    } else {
      head[1] = kLength16;
      write_be16(std::span(head).subspan<2, 2>(), static_cast<std::uint16_t>(message.size()));
      head_size = head.size();
    }
    out.append(std::span(head).first(head_size));
    out.append(message);
  }
}

void WebSocket::append_close(WebSocketClose code, ByteBuffer& out) {
  if (close_sent_) return;
  close_sent_ = true;
  std::array<std::uint8_t, 4> frame{kFinClose, 2};
  write_be16(std::span(frame).subspan<2, 2>(), static_cast<std::uint16_t>(code));
  out.append(frame);
}

}  // namespace detour::http
