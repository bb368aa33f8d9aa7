#include "client/client.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "acme/certificate.h"
#include "base/bytes.h"
#include "client/mini_server.h"
#include "derp/frame.h"

namespace detour::client {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

std::vector<std::uint8_t> recv_packet(const crypto::NodePublic& source, std::string_view packet) {
  std::vector<std::uint8_t> frame(derp::kRecvPacketHeadSize + packet.size());
  derp::write_recv_packet_head(std::span(frame).first<derp::kRecvPacketHeadSize>(), source,
                               packet.size());
  std::ranges::copy(packet, frame.begin() + derp::kRecvPacketHeadSize);
  return frame;
}

class ClientTest : public testing::Test {
 protected:
  ClientTest() { EXPECT_TRUE(crypto::init()); }

  static DialOptions options(const MiniServer& server, bool use_tls) {
    DialOptions made{.host = "127.0.0.1", .port = server.port(), .use_tls = use_tls};
    made.key = crypto::NodePrivate::generate();
    made.tls.trust.kind = Trust::Kind::kAnyone;
    made.timeout = seconds(8);
    return made;
  }

  const crypto::NodePrivate relay_key_ = crypto::NodePrivate::generate();
  const crypto::NodePublic other_ = crypto::NodePrivate::generate().public_key();
};

/// The certificate that a relay makes for itself.
class ClientTlsTest : public ClientTest {
 protected:
  ClientTlsTest()
      : directory_(std::filesystem::path(testing::TempDir()) /
                   ("client-tls-" + crypto::NodePrivate::generate().public_key().hex())) {
    acme::CertificateRequest request;
    request.hostname = "127.0.0.1";
    request.cert_dir = directory_;
    auto loaded = acme::load_certificate(request);
    EXPECT_TRUE(loaded.has_value());
    if (loaded) certificate_ = std::move(*loaded);
  }
  ~ClientTlsTest() override { std::filesystem::remove_all(directory_); }

  const std::filesystem::path directory_;
  acme::ServerCertificate certificate_;
};

TEST_F(ClientTest, LogsInWithoutTlsAndReceivesWhatCameWithServerInfo) {
  crypto::NodePublic seen;
  MiniServer server(
      [&](MiniConnection& c) { seen = c.log_in(relay_key_, recv_packet(other_, "hello")); },
      nullptr);
  const auto dial = options(server, false);
  const auto client = Client::dial(dial);
  ASSERT_TRUE(client.has_value()) << client.error().text();
  EXPECT_EQ((*client)->relay().key, relay_key_.public_key());
  const auto packet = (*client)->receive_packet(seconds(5));
  ASSERT_TRUE(packet && *packet);
  EXPECT_EQ((*packet)->source, other_);
  EXPECT_EQ(as_text((*packet)->bytes), "hello");
  server.wait();
  EXPECT_EQ(seen, dial.key.public_key());

  const auto end = (*client)->receive_packet(seconds(5));
  ASSERT_FALSE(end.has_value());
  EXPECT_EQ(end.error().layer, Layer::kRelay);
}

TEST_F(ClientTest, SendsPacketsAsFrames) {
  std::vector<std::uint8_t> seen;
  MiniServer server(
      [&](MiniConnection& c) {
        c.log_in(relay_key_);
        seen = c.read(derp::kRecvPacketHeadSize + 3);
      },
      nullptr);
  const auto client = Client::dial(options(server, false));
  ASSERT_TRUE(client.has_value()) << client.error().text();
  ASSERT_TRUE((*client)->send(other_, as_bytes("abc")).has_value());
  server.wait();
  std::vector<std::uint8_t> expected = recv_packet(other_, "abc");
  expected[0] = static_cast<std::uint8_t>(derp::FrameType::kSendPacket);
  EXPECT_EQ(seen, expected);
}

TEST_F(ClientTest, KeepsPacketsThatComeWhileItWaitsForAPong) {
  MiniServer server(
      [&](MiniConnection& c) {
        c.log_in(relay_key_);
        const auto ping = c.read(derp::kPongFrameSize);
        c.write(recv_packet(other_, "early"));
        derp::PingData data{};
        std::copy_n(ping.begin() + derp::kFrameHeaderSize, data.size(), data.begin());
        c.write(derp::encode_pong(data));
        c.read(1);
      },
      nullptr);
  const auto client = Client::dial(options(server, false));
  ASSERT_TRUE(client.has_value()) << client.error().text();
  EXPECT_TRUE((*client)->ping(seconds(5)).has_value());
  const auto packet = (*client)->receive_packet(milliseconds(0));
  ASSERT_TRUE(packet && *packet);
  EXPECT_EQ(as_text((*packet)->bytes), "early");
  (*client)->close();
}

TEST_F(ClientTest, GivesNothingWhenNothingComesInTime) {
  MiniServer server(
      [&](MiniConnection& c) {
        c.log_in(relay_key_);
        c.read(100'000);
      },
      nullptr);
  const auto client = Client::dial(options(server, false));
  ASSERT_TRUE(client.has_value()) << client.error().text();
  const auto packet = (*client)->receive_packet(milliseconds(1));
  ASSERT_TRUE(packet.has_value());
  EXPECT_FALSE(packet->has_value());
  const auto pong = (*client)->ping(milliseconds(1));
  ASSERT_FALSE(pong.has_value());
  EXPECT_TRUE(pong.error().timed_out);
  (*client)->abort();
  EXPECT_FALSE((*client)->send(other_, {}).has_value());
}

TEST_F(ClientTest, NamesTheLayerThatFails) {
  struct Case {
    std::string_view name;
    MiniServer::Serve serve;
    Layer layer;
    bool timed_out;
  };
  const auto wait = [](MiniConnection& c) { c.read(100'000); };
  const Case cases[] = {
      {"closes at once", [](MiniConnection&) {}, Layer::kHttp, false},
      {"says nothing", wait, Layer::kHttp, true},
      {"answers 404",
       [](MiniConnection& c) {
         c.read_head();
         c.write(as_bytes("HTTP/1.1 404 Not Found\r\n\r\n"));
       },
       Layer::kHttp, false},
      {"refuses the key",
       [this](MiniConnection& c) {
         c.read_head();
         c.write(as_bytes("HTTP/1.1 101 Switching Protocols\r\n\r\n"));
         c.write(derp::encode_server_key(relay_key_.public_key()));
         c.read(derp::kFrameHeaderSize + 72);
       },
       Layer::kLogin, false},
  };
  for (const auto& [name, serve, layer, timed_out] : cases) {
    SCOPED_TRACE(name);
    MiniServer server(serve, nullptr);
    auto dial = options(server, false);
    if (timed_out) dial.timeout = milliseconds(50);
    const auto client = Client::dial(dial);
    ASSERT_FALSE(client.has_value());
    EXPECT_EQ(client.error().layer, layer) << client.error().text();
    EXPECT_EQ(client.error().timed_out, timed_out) << client.error().text();
  }
}

TEST_F(ClientTest, SaysThatNothingListens) {
  // A port that was just free: bound and not listened on.
  const net::UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  socklen_t size = sizeof address;
  ASSERT_EQ(getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);

  const DialOptions dial{.host = "127.0.0.1", .port = ntohs(address.sin_port)};
  const auto client = Client::dial(dial);
  ASSERT_FALSE(client.has_value());
  EXPECT_EQ(client.error().layer, Layer::kTcp);
  EXPECT_EQ(client.error().system_error, ECONNREFUSED);
}

TEST_F(ClientTest, SaysThatAPortDoesNotSpeakTls) {
  MiniServer server(
      [](MiniConnection& c) { c.write(as_bytes("HTTP/1.0 400 Bad Request\r\n\r\n")); }, nullptr);
  const auto client = Client::dial(options(server, true));
  ASSERT_FALSE(client.has_value());
  EXPECT_EQ(client.error().layer, Layer::kTls);
  EXPECT_EQ(client.error().tls_problem, TlsProblem::kNotTls) << client.error().text();
}

TEST_F(ClientTlsTest, TrustsThePinnedCertificate) {
  for (const auto versions : {TlsVersions::kOnly12, TlsVersions::kOnly13}) {
    MiniServer server([&](MiniConnection& c) { c.log_in(relay_key_, recv_packet(other_, "x")); },
                      &certificate_);
    auto dial = options(server, true);
    dial.tls.versions = versions;
    dial.tls.trust = {.kind = Trust::Kind::kPin, .pin = *parse_pin(certificate_.pin)};
    const auto client = Client::dial(dial);
    ASSERT_TRUE(client.has_value()) << client.error().text();
    const auto& relay = (*client)->relay();
    EXPECT_EQ(format_pin(*relay.leaf_sha256), certificate_.pin);
    EXPECT_EQ(relay.tls_version, versions == TlsVersions::kOnly12 ? "TLSv1.2" : "TLSv1.3");
    EXPECT_FALSE(relay.has_meta_certificate);
    const auto packet = (*client)->receive_packet(seconds(5));
    EXPECT_TRUE(packet && *packet);
  }
}

TEST_F(ClientTlsTest, RefusesCertificatesThatItIsNotToldToTrust) {
  struct Case {
    std::string_view name;
    Trust trust;
    TlsProblem problem;
  };
  const Case cases[] = {
      {"another pin", {.kind = Trust::Kind::kPin}, TlsProblem::kWrongPin},
      {"self-signed", {.kind = Trust::Kind::kAuthorities}, TlsProblem::kSelfSigned},
  };
  for (const auto& [name, trust, problem] : cases) {
    SCOPED_TRACE(name);
    MiniServer server([](MiniConnection& c) { c.read_head(); }, &certificate_);
    auto dial = options(server, true);
    dial.tls.trust = trust;
    const auto client = Client::dial(dial);
    ASSERT_FALSE(client.has_value());
    EXPECT_EQ(client.error().layer, Layer::kTls);
    EXPECT_EQ(client.error().tls_problem, problem) << client.error().text();
    EXPECT_EQ(client.error().certificate_pin, certificate_.pin);
  }
}

TEST_F(ClientTlsTest, TrustsAnAuthorityForTheNamesItVouchesFor) {
  struct Case {
    std::string_view host;
    TlsProblem problem;
  };
  for (const auto& [host, problem] :
       {Case{"127.0.0.1", TlsProblem::kNone}, Case{"localhost", TlsProblem::kWrongName}}) {
    SCOPED_TRACE(host);
    MiniServer server([&](MiniConnection& c) { c.log_in(relay_key_); }, &certificate_);
    auto dial = options(server, true);
    dial.host = host;
    dial.tls.trust = {.kind = Trust::Kind::kAuthorities,
                      .authorities_file = certificate_.cert_file};
    const auto client = Client::dial(dial);
    if (problem == TlsProblem::kNone) {
      EXPECT_TRUE(client.has_value()) << client.error().text();
    } else {
      ASSERT_FALSE(client.has_value());
      EXPECT_EQ(client.error().tls_problem, problem) << client.error().text();
    }
  }
}

TEST(Pin, IsReadAndWrittenInTailscalesForm) {
  const std::string text =
      "sha256-raw:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
  ASSERT_TRUE(parse_pin(text).has_value());
  EXPECT_EQ(format_pin(*parse_pin(text)), text);
  for (const std::string_view wrong :
       {"",
        "sha256-raw:", "sha256:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
        "sha256-raw:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e",
        "sha256-raw:0g0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
        "sha256-raw:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f00"})
    EXPECT_FALSE(parse_pin(wrong).has_value()) << wrong;
}

}  // namespace
}  // namespace detour::client
