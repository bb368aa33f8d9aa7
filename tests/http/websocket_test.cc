#include "http/websocket.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"

namespace detour::http {
namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr std::uint8_t kFin = 0x80;
constexpr std::uint8_t kContinuation = 0;
constexpr std::uint8_t kText = 1;
constexpr std::uint8_t kBinary = 2;
constexpr std::uint8_t kClose = 8;
constexpr std::uint8_t kPing = 9;
constexpr std::uint8_t kPong = 10;

/// A client's frame: `first` is FIN, reserved bits and opcode.
Bytes frame(std::uint8_t first, std::string_view payload, bool masked = true) {
  const std::uint8_t mask_bit = masked ? 0x80 : 0;
  Bytes bytes{first};
  if (payload.size() <= 125) {
    bytes.push_back(static_cast<std::uint8_t>(mask_bit | payload.size()));
  } else if (payload.size() <= 0xffff) {
    bytes.push_back(mask_bit | 126);
    bytes.push_back(static_cast<std::uint8_t>(payload.size() >> 8));
    bytes.push_back(static_cast<std::uint8_t>(payload.size()));
  } else {
    bytes.push_back(mask_bit | 127);
    for (int shift = 56; shift >= 0; shift -= 8)
      bytes.push_back(static_cast<std::uint8_t>(std::uint64_t{payload.size()} >> shift));
  }
  constexpr std::uint8_t kMask[4] = {0x37, 0xfa, 0x21, 0x3d};
  if (masked) bytes.insert(bytes.end(), std::begin(kMask), std::end(kMask));
  for (std::size_t i = 0; i < payload.size(); ++i) {
    const auto byte = static_cast<std::uint8_t>(payload[i]);
    bytes.push_back(masked ? byte ^ kMask[i % 4] : byte);
  }
  return bytes;
}

Bytes operator+(Bytes a, const Bytes& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

/// What came out of a WebSocket: the stream, and the frames to answer with.
struct Outcome {
  std::string stream;
  std::string answers;
  bool ended;
  bool in_order;
};

/// Feeds `bytes` in pieces of `piece` bytes.
Outcome decode(const Bytes& bytes, std::size_t piece) {
  WebSocket socket;
  Outcome outcome{};
  for (std::size_t at = 0; at < bytes.size(); at += piece) {
    Bytes part(bytes.begin() + static_cast<std::ptrdiff_t>(at),
               bytes.begin() + static_cast<std::ptrdiff_t>(std::min(at + piece, bytes.size())));
    const std::size_t size = socket.decode(part);
    outcome.stream += as_text(std::span(part).first(size));
  }
  outcome.answers = as_text(socket.answers().bytes());
  outcome.ended = socket.ended();
  outcome.in_order = socket.ended_in_order();
  return outcome;
}

std::string server_close(unsigned code) {
  return {'\x88', '\x02', static_cast<char>(code >> 8), static_cast<char>(code & 0xff)};
}

TEST(WebSocketFrames, BinaryMessagesAreOneStreamHoweverTheyAreCut) {
  const std::string large(kWebSocketMessageMax, 'x');
  const Bytes input = frame(kFin | kBinary, "hello") + frame(kBinary, " wo") +
                      frame(kFin | kPing, "now?") + frame(kContinuation, "") +
                      frame(kFin | kContinuation, "rld") + frame(kFin | kBinary, "") +
                      frame(kFin | kPong, "unasked") +
                      frame(kFin | kBinary, std::string(126, 'y')) + frame(kFin | kBinary, large);
  const std::string stream = "hello world" + std::string(126, 'y') + large;
  for (const std::size_t piece : {std::size_t{1}, std::size_t{2}, std::size_t{3}, std::size_t{7},
                                  std::size_t{4096}, input.size()}) {
    SCOPED_TRACE(piece);
    const Outcome outcome = decode(input, piece);
    EXPECT_TRUE(outcome.stream == stream);
    EXPECT_EQ(outcome.answers, "\x8a\x04now?");
    EXPECT_FALSE(outcome.ended);
  }
}

TEST(WebSocketFrames, EverySplitPointGivesTheSameStream) {
  const Bytes input = frame(kBinary, "abc") + frame(kFin | kPing, "") +
                      frame(kFin | kContinuation, std::string(130, 'd')) +
                      frame(kFin | kBinary, "e");
  for (std::size_t split = 0; split <= input.size(); ++split) {
    WebSocket socket;
    Bytes first(input.begin(), input.begin() + static_cast<std::ptrdiff_t>(split));
    Bytes second(input.begin() + static_cast<std::ptrdiff_t>(split), input.end());
    std::string stream(as_text(std::span(first).first(socket.decode(first))));
    stream += as_text(std::span(second).first(socket.decode(second)));
    EXPECT_EQ(stream, "abc" + std::string(130, 'd') + "e") << "split at " << split;
  }
}

TEST(WebSocketFrames, FaultsEndItWithTheirCode) {
  const std::string limit(kWebSocketMessageMax, 'x');
  struct Case {
    std::string_view name;
    Bytes input;
    unsigned code;
  };
  const Case cases[] = {
      {"text", frame(kFin | kText, "hello"), 1003},
      {"empty text", frame(kFin | kText, ""), 1003},
      {"one byte above the limit", frame(kFin | kBinary, limit + "x"), 1009},
      {"above the limit in two parts", frame(kBinary, limit) + frame(kFin | kContinuation, "x"),
       1009},
      {"a size of 2^62", {kFin | kBinary, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0}, 1009},
      {"no mask", frame(kFin | kBinary, "hello", /*masked=*/false), 1002},
      {"a reserved bit", frame(kFin | 0x40 | kBinary, "hello"), 1002},
      {"a continuation of nothing", frame(kFin | kContinuation, "hello"), 1002},
      {"a message within a message", frame(kBinary, "a") + frame(kFin | kBinary, "b"), 1002},
      {"an unknown opcode", frame(kFin | 3, "hello"), 1002},
      {"an unknown control opcode", frame(kFin | 11, "hello"), 1002},
      {"a ping in parts", frame(kPing, "hello"), 1002},
      {"a ping of 126 bytes", frame(kFin | kPing, std::string(126, 'p')), 1002},
      {"a close code that nobody may send", frame(kFin | kClose, "\x03\xed"), 1002},
  };
  for (const auto& [name, input, code] : cases) {
    SCOPED_TRACE(name);
    for (const std::size_t piece : {std::size_t{1}, input.size()}) {
      const Outcome outcome = decode(input + frame(kFin | kBinary, "more"), piece);
      EXPECT_TRUE(outcome.ended);
      EXPECT_FALSE(outcome.in_order);
      EXPECT_EQ(outcome.answers, server_close(code));
      EXPECT_EQ(outcome.stream.find("more"), std::string::npos);
    }
  }
}

TEST(WebSocketFrames, TakesTheLimitInTwoParts) {
  const std::string part(kWebSocketMessageMax - 1, 'x');
  const Outcome outcome = decode(frame(kBinary, part) + frame(kFin | kContinuation, "y"), 4096);
  EXPECT_FALSE(outcome.ended);
  EXPECT_TRUE(outcome.stream == part + "y");
}

TEST(WebSocketFrames, AClosePassesTheStreamBeforeItAndIsAnswered) {
  const Bytes data = frame(kFin | kBinary, "last");
  for (const auto& [payload, answer] :
       {std::pair<std::string, std::string>{"\x03\xe8", "\x88\x02\x03\xe8"},
        {"\x03\xe9"
         "bye",
         "\x88\x05\x03\xe9"
         "bye"},
        {"", std::string("\x88\x00", 2)}}) {
    const Outcome outcome = decode(data + frame(kFin | kClose, payload) + data, 5);
    EXPECT_EQ(outcome.stream, "last");
    EXPECT_TRUE(outcome.ended);
    EXPECT_TRUE(outcome.in_order);
    EXPECT_EQ(outcome.answers.substr(0, 1), answer.substr(0, 1));
    EXPECT_EQ(outcome.answers.substr(2, 2), answer.substr(2, 2));
  }
  EXPECT_FALSE(decode(frame(kFin | kClose, "\x03\xea"), 100).in_order);
}

TEST(WebSocketFrames, PongsAreDroppedWhileThePeerDoesNotRead) {
  WebSocket socket;
  Bytes pings;
  for (int i = 0; i < 1000; ++i) pings = pings + frame(kFin | kPing, "ping");
  socket.drop_answers(true);
  Bytes copy = pings;
  EXPECT_EQ(socket.decode(copy), 0U);
  EXPECT_TRUE(socket.answers().empty());
  socket.drop_answers(false);
  copy = pings;
  EXPECT_EQ(socket.decode(copy), 0U);
  EXPECT_EQ(socket.answers().size(), 1000U * 6);
}

TEST(WebSocketFrames, AppendMessagesKeepsEachMessageWithinTheLimit) {
  struct Case {
    std::size_t payload;
    std::vector<std::size_t> messages;
  };
  const Case cases[] = {
      {0, {}},
      {1, {1}},
      {125, {125}},
      {126, {126}},
      {kWebSocketMessageMax, {kWebSocketMessageMax}},
      {kWebSocketMessageMax + 1, {kWebSocketMessageMax, 1}},
      {2 * kWebSocketMessageMax + 100, {kWebSocketMessageMax, kWebSocketMessageMax, 100}},
  };
  for (const auto& [payload_size, messages] : cases) {
    SCOPED_TRACE(payload_size);
    Bytes payload(payload_size);
    for (std::size_t i = 0; i < payload.size(); ++i) payload[i] = static_cast<std::uint8_t>(i * 7);
    ByteBuffer out;
    WebSocket::append_messages(payload, out);

    std::vector<std::size_t> sizes;
    Bytes stream;
    for (auto rest = out.bytes(); !rest.empty();) {
      ASSERT_EQ(rest[0], 0x82);
      std::size_t size = rest[1];
      std::size_t head = 2;
      if (size == 126) {
        size = read_be16(rest.subspan<2, 2>());
        head = 4;
        EXPECT_GE(size, 126U) << "lengths take the shortest form";
      }
      ASSERT_LE(head + size, rest.size());
      stream.insert(stream.end(), rest.begin() + static_cast<std::ptrdiff_t>(head),
                    rest.begin() + static_cast<std::ptrdiff_t>(head + size));
      sizes.push_back(size);
      rest = rest.subspan(head + size);
    }
    EXPECT_EQ(sizes, messages);
    EXPECT_TRUE(stream == payload);
  }
}

TEST(WebSocketFrames, OneCloseFrameIsSentAtMost) {
  WebSocket socket;
  ByteBuffer out;
  socket.append_close(WebSocketClose::kNormal, out);
  EXPECT_EQ(as_text(out.bytes()), server_close(1000));
  socket.append_close(WebSocketClose::kPolicyViolation, out);
  EXPECT_EQ(out.size(), 4U);
  EXPECT_TRUE(socket.close_sent());

  WebSocket closed_by_peer;
  Bytes close = frame(kFin | kClose, "\x03\xe8");
  EXPECT_EQ(closed_by_peer.decode(close), 0U);
  ByteBuffer nothing;
  closed_by_peer.append_close(WebSocketClose::kNormal, nothing);
  EXPECT_TRUE(nothing.empty());
}

// --- Handshake ----------------------------------------------------------------------------------

Request request() {
  Request request;
  request.method = "GET";
  request.target = request.path = "/derp";
  request.headers = {{"Host", "derp.example.com"},
                     {"Connection", "keep-alive, Upgrade"},
                     {"Upgrade", "websocket"},
                     {"Origin", "https://elsewhere.example"},
                     {"Sec-WebSocket-Version", "13"},
                     {"Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits"},
                     {"Sec-WebSocket-Protocol", "derp"},
                     // Key and answer of RFC 6455 section 1.3.
                     {"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="}};
  return request;
}

std::string& header(Request& request, std::string_view name) {
  return std::ranges::find_if(request.headers, [&](const auto& f) { return f.first == name; })
      ->second;
}

TEST(WebSocketHandshake, AnswersTheExampleOfTheStandard) {
  const auto handshake = accept_websocket(request(), "derp");
  ASSERT_TRUE(handshake.accepted);
  EXPECT_EQ(handshake.subprotocol, "derp");
  EXPECT_EQ(handshake.head,
            "HTTP/1.1 101 Switching Protocols\r\n"
            "Upgrade: websocket\r\n"
            "Connection: Upgrade\r\n"
            "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
            "Sec-WebSocket-Protocol: derp\r\n"
            "\r\n");
}

TEST(WebSocketHandshake, SubprotocolsAreMatchedAsWholeTokensInAnyCase) {
  for (const auto& [offered, chosen] : {std::pair<std::string, std::string>{"derp", "derp"},
                                        {"DERP", "DERP"},
                                        {"chat, derp", "derp"},
                                        {"derp,chat", "derp"},
                                        {"xderp", ""},
                                        {"derp2", ""}}) {
    Request asking = request();
    header(asking, "Sec-WebSocket-Protocol") = offered;
    const auto handshake = accept_websocket(asking, "derp");
    EXPECT_TRUE(handshake.accepted) << offered;
    EXPECT_EQ(handshake.subprotocol, chosen) << offered;
    EXPECT_EQ(handshake.head.find("Sec-WebSocket-Protocol") == std::string::npos, chosen.empty());
  }
}

TEST(WebSocketHandshake, FaultsGetTheStatusThatFits) {
  struct Case {
    std::string_view name;
    std::string_view header;
    std::string_view value;
    unsigned status;
  };
  constexpr Case kCases[] = {
      {"no upgrade in Connection", "Connection", "keep-alive", 426},
      {"another upgrade", "Upgrade", "h2c", 426},
      {"an older version", "Sec-WebSocket-Version", "8", 400},
      {"no key", "Sec-WebSocket-Key", "", 400},
      {"a key of 15 bytes", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25j", 400},
      {"a key of 17 bytes", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZWU=", 400},
      {"a key that is no base64", "Sec-WebSocket-Key", "dGhlIHNhbXBs*SBub25jZQ==", 400},
      {"padding in the middle", "Sec-WebSocket-Key", "dGhlIHNhbXB=ZSBub25jZQ==", 400},
  };
  for (const auto& [name, header_name, value, status] : kCases) {
    SCOPED_TRACE(name);
    Request asking = request();
    header(asking, header_name) = value;
    const auto handshake = accept_websocket(asking, "derp");
    EXPECT_FALSE(handshake.accepted);
    EXPECT_EQ(handshake.response.status, status);
  }

  Request posting = request();
  posting.method = "POST";
  EXPECT_EQ(accept_websocket(posting, "derp").response.status, 405U);
  Request old = request();
  old.version = 10;
  EXPECT_EQ(accept_websocket(old, "derp").response.status, 426U);
  Request two_keys = request();
  two_keys.headers.emplace_back("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
  EXPECT_EQ(accept_websocket(two_keys, "derp").response.status, 400U);
  Request padded_key = request();
  header(padded_key, "Sec-WebSocket-Key") = " dGhlIHNhbXBsZSBub25jZQ== ";
  EXPECT_TRUE(accept_websocket(padded_key, "derp").accepted);
}

}  // namespace
}  // namespace detour::http
