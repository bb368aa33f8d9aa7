#include "client/session.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "crypto/box.h"
#include "derp/frame.h"
#include "derp/handshake.h"

namespace detour::client {
namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr std::string_view kSwitching =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\r\n";

void append(Bytes* out, std::span<const std::uint8_t> bytes) {
  out->insert(out->end(), bytes.begin(), bytes.end());
}

/// The relay's side of a login, made by hand.
class SessionTest : public testing::Test {
 protected:
  SessionTest() { EXPECT_TRUE(crypto::init()); }

  SessionOptions options(bool fast_start) const {
    SessionOptions made{.key = client_key_, .host = "relay.example:8443"};
    if (fast_start) made.relay_key = relay_key_.public_key();
    return made;
  }

  Bytes server_key() const {
    const auto frame = derp::encode_server_key(relay_key_.public_key());
    return {frame.begin(), frame.end()};
  }

  Bytes server_info() const {
    return derp::encode_server_info(
        *crypto::SharedKey::derive(relay_key_, client_key_.public_key()));
  }

  /// Everything that a relay sends up to and with ServerInfo.
  Bytes login(bool fast_start) const {
    Bytes bytes;
    if (!fast_start) append(&bytes, as_bytes(kSwitching));
    append(&bytes, server_key());
    append(&bytes, server_info());
    return bytes;
  }

  /// Checks a ClientInfo frame as a relay does.
  void expect_client_info(std::span<const std::uint8_t> frame) const {
    ASSERT_GT(frame.size(), derp::kFrameHeaderSize);
    const auto header = derp::read_frame_header(frame.first<derp::kFrameHeaderSize>());
    EXPECT_EQ(header.type, derp::FrameType::kClientInfo);
    EXPECT_EQ(header.payload_size, frame.size() - derp::kFrameHeaderSize);
    const auto hello = derp::open_client_info(frame.subspan(derp::kFrameHeaderSize), relay_key_);
    ASSERT_TRUE(hello.has_value());
    EXPECT_EQ(hello->key, client_key_.public_key());
    EXPECT_EQ(hello->info.version, derp::kProtocolVersion);
    EXPECT_TRUE(hello->info.can_ack_pings);
  }

  const crypto::NodePrivate relay_key_ = crypto::NodePrivate::generate();
  const crypto::NodePrivate client_key_ = crypto::NodePrivate::generate();
};

/// Feeds all of `bytes` and counts the frames. Gives the failure, if one came.
std::optional<Failure> feed(Session& session, std::span<const std::uint8_t> bytes,
                            std::size_t* frames = nullptr) {
  while (!bytes.empty()) {
    const auto frame = session.next(&bytes);
    if (!frame) return frame.error();
    if (*frame && frames != nullptr) ++*frames;
  }
  return std::nullopt;
}

TEST_F(SessionTest, AsksForTheUpgradeAndWaitsForTheRelaysKey) {
  Session session(options(/*fast_start=*/false));
  const Bytes request = session.take_output();
  const auto text = as_text(request);
  EXPECT_TRUE(text.starts_with("GET /derp HTTP/1.1\r\n"));
  EXPECT_NE(text.find("\r\nHost: relay.example:8443\r\n"), std::string_view::npos);
  EXPECT_NE(text.find("\r\nUpgrade: DERP\r\n"), std::string_view::npos);
  EXPECT_EQ(text.find("Derp-Fast-Start"), std::string_view::npos);
  EXPECT_TRUE(text.ends_with("\r\n\r\n"));

  EXPECT_FALSE(feed(session, as_bytes(kSwitching)));
  EXPECT_TRUE(session.take_output().empty());
  EXPECT_FALSE(feed(session, server_key()));
  expect_client_info(session.take_output());
  EXPECT_FALSE(session.is_open());
  EXPECT_FALSE(feed(session, server_info()));
  EXPECT_TRUE(session.is_open());
  EXPECT_EQ(session.relay_key(), relay_key_.public_key());
}

TEST_F(SessionTest, SendsEverythingAtOnceWithFastStart) {
  Session session(options(/*fast_start=*/true));
  const Bytes output = session.take_output();
  const auto text = as_text(output);
  const std::size_t end = text.find("\r\n\r\n") + 4;
  EXPECT_NE(text.substr(0, end).find("\r\nDerp-Fast-Start: 1\r\n"), std::string_view::npos);
  expect_client_info(std::span(output).subspan(end));
  EXPECT_FALSE(feed(session, login(true)));
  EXPECT_TRUE(session.is_open());
  EXPECT_TRUE(session.take_output().empty());
}

TEST_F(SessionTest, LogsInAtEverySplitPoint) {
  for (const bool fast_start : {false, true}) {
    Bytes stream = login(fast_start);
    append(&stream, derp::kKeepAliveFrame);
    for (std::size_t split = 0; split <= stream.size(); ++split) {
      SCOPED_TRACE(testing::Message() << (fast_start ? "fast, " : "") << split);
      Session session(options(fast_start));
      std::size_t frames = 0;
      EXPECT_FALSE(feed(session, std::span(stream).first(split), &frames));
      EXPECT_FALSE(feed(session, std::span(stream).subspan(split), &frames));
      EXPECT_TRUE(session.is_open());
      EXPECT_EQ(frames, 1U);
    }
  }
}

TEST_F(SessionTest, GivesFramesThatCameTogetherWithServerInfo) {
  Bytes stream = login(false);
  append(&stream, derp::kKeepAliveFrame);
  append(&stream, derp::encode_pong({1, 2, 3, 4, 5, 6, 7, 8}));
  Session session(options(false));
  std::size_t frames = 0;
  EXPECT_FALSE(feed(session, stream, &frames));
  EXPECT_EQ(frames, 2U);
}

TEST_F(SessionTest, NamesTheLayerThatRefuses) {
  const Bytes wrong_key_frame = [] {
    const auto frame = derp::encode_server_key(crypto::NodePrivate::generate().public_key());
    return Bytes(frame.begin(), frame.end());
  }();
  Bytes wrong_magic = server_key();
  wrong_magic[derp::kFrameHeaderSize] ^= 1;
  Bytes wrong_box = login(false);
  wrong_box.back() ^= 1;
  Bytes pong_first(kSwitching.begin(), kSwitching.end());
  append(&pong_first, derp::encode_pong({}));
  Bytes pong_second(kSwitching.begin(), kSwitching.end());
  append(&pong_second, server_key());
  append(&pong_second, derp::encode_pong({}));
  Bytes magic_behind_head(kSwitching.begin(), kSwitching.end());
  append(&magic_behind_head, wrong_magic);
  const auto text = [](std::string_view t) { return Bytes(t.begin(), t.end()); };

  struct Case {
    std::string_view name;
    bool fast_start;
    Bytes bytes;
    Layer layer;
    unsigned http_status;
  };
  const Case cases[] = {
      {"switched off", false, text("HTTP/1.1 404 Not Found\r\n\r\n"), Layer::kHttp, 404},
      {"switched off, fast start", true, text("HTTP/1.1 404 Not Found\r\n\r\n"), Layer::kHttp, 404},
      {"HTTP/1.0", false, text("HTTP/1.0 400 Bad Request\r\n\r\n"), Layer::kHttp, 400},
      {"no status", false, text("HTTP/1.1 OK\r\n\r\n"), Layer::kHttp, 0},
      {"another protocol", false, text("SSH-2.0-OpenSSH\r\n\r\n"), Layer::kHttp, 0},
      {"endless head", false, Bytes(kResponseHeadMax, 'a'), Layer::kHttp, 0},
      {"wrong magic", false, magic_behind_head, Layer::kLogin, 0},
      {"another relay than the meta certificate's", true, wrong_key_frame, Layer::kLogin, 0},
      {"ServerKey is not first", false, pong_first, Layer::kLogin, 0},
      {"ServerInfo is not second", false, pong_second, Layer::kLogin, 0},
      {"ServerInfo does not open", false, wrong_box, Layer::kLogin, 0},
  };
  for (const auto& [name, fast_start, bytes, layer, http_status] : cases) {
    SCOPED_TRACE(name);
    Session session(options(fast_start));
    const auto failure = feed(session, bytes);
    ASSERT_TRUE(failure.has_value());
    EXPECT_EQ(failure->layer, layer);
    EXPECT_EQ(failure->http_status, http_status);
    EXPECT_FALSE(session.is_open());
    // It stays failed, and says the same again.
    EXPECT_EQ(feed(session, server_info())->message, failure->message);
    EXPECT_EQ(session.ended().message, failure->message);
  }
}

TEST_F(SessionTest, PassesOnWhyARelayRefusesTheKey) {
  Session session(options(/*fast_start=*/true));
  Bytes refused = server_key();
  append(&refused, derp::encode_health("not\x1b[31m you"));
  const auto failure = feed(session, refused);
  ASSERT_TRUE(failure.has_value());
  EXPECT_EQ(failure->layer, Layer::kLogin);
  EXPECT_EQ(failure->message, "the relay refuses this key and says why: not [31m you");
}

TEST_F(SessionTest, AcceptsAHeadOneByteBelowTheLimit) {
  std::string head = "HTTP/1.1 101 Switching Protocols\r\nX: ";
  head.append(kResponseHeadMax - head.size() - 4, 'a').append("\r\n\r\n");
  Session session(options(false));
  EXPECT_FALSE(feed(session, as_bytes(head)));
  EXPECT_FALSE(feed(session, server_key()));
  EXPECT_FALSE(session.take_output().empty());
}

TEST_F(SessionTest, SaysHowFarItCameWhenTheConnectionEnds) {
  Session session(options(false));
  EXPECT_EQ(session.ended().layer, Layer::kHttp);
  EXPECT_FALSE(feed(session, as_bytes(kSwitching)));
  EXPECT_EQ(session.ended().layer, Layer::kLogin);
  EXPECT_FALSE(feed(session, server_key()));
  EXPECT_EQ(session.ended().layer, Layer::kLogin);
  EXPECT_FALSE(feed(session, server_info()));
  EXPECT_EQ(session.ended().layer, Layer::kRelay);
}

TEST_F(SessionTest, RefusesARelayKeyThatCannotBeUsed) {
  SessionOptions with_zero_key = options(false);
  with_zero_key.relay_key = crypto::NodePublic();
  Session session(std::move(with_zero_key));
  EXPECT_EQ(feed(session, server_key())->layer, Layer::kLogin);
}

}  // namespace
}  // namespace detour::client
