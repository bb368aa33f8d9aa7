#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "net/openssl_transport.h"
#include "net/tls_peer.h"
#include "support/frames.h"
#include "support/says.h"

namespace detour::net {
namespace {

using Opened = Transport::Opened;
using test::plain_packet;
using test::says;

/// Sizes of the records in some ciphertext, heads included.
std::vector<std::size_t> record_sizes(std::span<const std::uint8_t> ciphertext) {
  std::vector<std::size_t> sizes;
  while (ciphertext.size() >= 5) {
    const std::size_t size = 5U + read_be16(ciphertext.subspan<3, 2>());
    if (size > ciphertext.size()) break;
    sizes.push_back(size);
    ciphertext = ciphertext.subspan(size);
  }
  return sizes;
}

/// One way to protect records.
struct Records {
  const char* name;
  int version;
  std::optional<RecordKey::Backend> own;  ///< nullopt: OpenSSL to the end.
  const char* ciphers = "TLS_AES_128_GCM_SHA256";
};

constexpr Records kRecords[] = {
    {"Tls12", TLS1_2_VERSION, std::nullopt},
    {"Tls13", TLS1_3_VERSION, std::nullopt},
    {"OwnEvp", TLS1_3_VERSION, RecordKey::Backend::kEvp},
    {"OwnEvp256", TLS1_3_VERSION, RecordKey::Backend::kEvp, "TLS_AES_256_GCM_SHA384"},
#ifdef DETOUR_HAS_IPSEC_MB
    {"OwnIpsecMb", TLS1_3_VERSION, RecordKey::Backend::kIpsecMb},
    {"OwnIpsecMb256", TLS1_3_VERSION, RecordKey::Backend::kIpsecMb, "TLS_AES_256_GCM_SHA384"},
#endif
};

/// The same for every way to protect records.
class TlsTransportTest : public testing::TestWithParam<Records> {
 protected:
  TlsTransportTest() : transport_(UsedTransport::make(*context_)) {}

  void SetUp() override {
    if (GetParam().own && !RecordKey::has_backend(*GetParam().own))
      GTEST_SKIP() << "this CPU lacks what the backend needs";
  }

  [[nodiscard]] static TlsPeer::Options peer_options() {
    return {.version = GetParam().version, .ciphers = GetParam().ciphers};
  }
  void shake_hands() {
    ASSERT_TRUE(connect(peer_, *transport_)) << transport_->failure();
    ASSERT_EQ(transport_->switched(), GetParam().own.has_value());
  }

  std::unique_ptr<TlsContext> context_ = make_context({}, GetParam().own);
  std::unique_ptr<UsedTransport> transport_;
  TlsPeer peer_{peer_options()};
};

INSTANTIATE_TEST_SUITE_P(Records, TlsTransportTest, testing::ValuesIn(kRecords),
                         [](const auto& records) { return records.param.name; });

TEST_P(TlsTransportTest, ShakesHandsInPiecesOfAnySize) {
  for (const std::size_t piece : {1U, 2U, 5U, 6U, 100U, 517U, 100'000U}) {
    SCOPED_TRACE(piece);
    const auto transport = UsedTransport::make(*context_);
    TlsPeer peer(peer_options());
    ASSERT_TRUE(connect(peer, *transport, piece)) << transport->failure();
    EXPECT_EQ(transport->version(), GetParam().version == TLS1_2_VERSION
                                        ? Transport::Version::kTls12
                                        : Transport::Version::kTls13);
    EXPECT_EQ(transport->failure(), "");

    const Bytes packet = plain_packet(1000);
    peer.write(packet);
    EXPECT_EQ(open_all(*transport, peer.take()).plaintext, packet);
    ByteBuffer sink;
    ASSERT_TRUE(transport->seal(packet, sink));
    peer.give(sink.bytes());
    EXPECT_EQ(peer.read(), packet);
  }
}

TEST_P(TlsTransportTest, OpensARecordAtEverySplitPoint) {
  shake_hands();
  const Bytes packet = plain_packet(40);
  peer_.write(packet);
  const std::size_t size = peer_.take().size();
  // That one is lost; the count of records must match on both sides, so start over.
  const auto transport = UsedTransport::make(*context_);
  TlsPeer peer(peer_options());
  ASSERT_TRUE(connect(peer, *transport));
  for (std::size_t at = 0; at <= size; ++at) {
    SCOPED_TRACE(at);
    peer.write(packet);
    const Bytes record = peer.take();
    ASSERT_EQ(record.size(), size);
    const auto first = open_all(*transport, std::span(record).first(at));
    const auto second = open_all(*transport, std::span(record).subspan(at));
    ASSERT_EQ(first.status, Opened::kNeedsInput);
    ASSERT_EQ(second.status, Opened::kNeedsInput);
    Bytes both = first.plaintext;
    both.insert(both.end(), second.plaintext.begin(), second.plaintext.end());
    ASSERT_EQ(both, packet);
    ASSERT_TRUE(first.answer.empty() && second.answer.empty());
  }
}

TEST_P(TlsTransportTest, OpensAStreamOneByteAtATime) {
  shake_hands();
  Bytes wanted;
  for (const std::size_t size : {1U, 17U, 300U, 1400U}) {
    const Bytes packet = plain_packet(size, static_cast<std::uint8_t>(size));
    peer_.write(packet);
    wanted.insert(wanted.end(), packet.begin(), packet.end());
  }
  Bytes opened;
  for (const std::uint8_t byte : peer_.take()) {
    const auto part = open_all(*transport_, std::span(&byte, 1));
    ASSERT_EQ(part.status, Opened::kNeedsInput);
    opened.insert(opened.end(), part.plaintext.begin(), part.plaintext.end());
  }
  EXPECT_EQ(opened, wanted);
}

TEST_P(TlsTransportTest, OpensRecordsOfEverySizeIntoAnyRoom) {
  shake_hands();
  // Records that are opened in one go need room for a whole one.
  const std::size_t least = GetParam().own ? Transport::kRecordRoom : 1;
  for (const std::size_t size :
       {std::size_t{1}, std::size_t{5}, std::size_t{1400}, std::size_t{16'383}, std::size_t{16'384},
        std::size_t{16'385}, std::size_t{40'000}, std::size_t{131'072}}) {
    for (const std::size_t room : {std::size_t{1}, std::size_t{100}, Transport::kRecordRoom, size,
                                   size + 1, std::size_t{262'144}}) {
      if (size / room > 2000 || room < least) continue;
      SCOPED_TRACE(testing::Message() << size << " bytes into " << room);
      const Bytes packet = plain_packet(size);
      peer_.write(packet);
      const auto opened = open_all(*transport_, peer_.take(), room);
      ASSERT_TRUE(opened.plaintext == packet);
      ASSERT_EQ(opened.status, Opened::kNeedsInput);
    }
  }
}

TEST_P(TlsTransportTest, OpensManyRecordsOfOneRead) {
  shake_hands();
  Bytes wanted;
  for (int i = 0; i < 90; ++i) {
    const Bytes packet = plain_packet(1400, static_cast<std::uint8_t>(i));
    peer_.write(packet);
    wanted.insert(wanted.end(), packet.begin(), packet.end());
  }
  const Bytes ciphertext = peer_.take();
  // As recv() cuts it: anywhere.
  Bytes opened;
  for (std::size_t at = 0; at < ciphertext.size(); at += 65'536) {
    const auto piece =
        std::span(ciphertext).subspan(at, std::min<std::size_t>(65'536, ciphertext.size() - at));
    const auto part = open_all(*transport_, piece);
    opened.insert(opened.end(), part.plaintext.begin(), part.plaintext.end());
  }
  EXPECT_TRUE(opened == wanted);
}

TEST_P(TlsTransportTest, SealsInWholeRecordsOfSixteenKib) {
  shake_hands();
  for (const std::size_t size : {1U, 1400U, 16'384U, 16'385U, 131'072U}) {
    SCOPED_TRACE(size);
    const Bytes packet = plain_packet(size);
    ByteBuffer sink;
    ASSERT_TRUE(transport_->seal(packet, sink));
    const auto sizes = record_sizes(sink.bytes());
    EXPECT_EQ(sizes.size(), (size + 16'383) / 16'384);
    for (const std::size_t record : sizes) EXPECT_LE(record, 16'384U + 5 + 256);
    peer_.give(sink.bytes());
    ASSERT_TRUE(peer_.read() == packet);
  }
  ByteBuffer sink;
  EXPECT_TRUE(transport_->seal({}, sink));
  EXPECT_TRUE(sink.empty()) << "nothing makes no record";
}

TEST_P(TlsTransportTest, AppendsBehindWhatTheSinkHolds) {
  shake_hands();
  ByteBuffer sink;
  ASSERT_TRUE(transport_->seal(plain_packet(10, 1), sink));
  const std::size_t first = sink.size();
  ASSERT_TRUE(transport_->seal(plain_packet(10, 2), sink));
  EXPECT_EQ(sink.size(), 2 * first);
  peer_.give(sink.bytes());
  EXPECT_EQ(peer_.read(), test::concat({plain_packet(10, 1), plain_packet(10, 2)}));
}

TEST_P(TlsTransportTest, OpensWhatCameTogetherWithTheEndOfTheHandshake) {
  // The client's last flight and its first data in one read.
  const Bytes packet = plain_packet(500);
  auto status = Transport::Handshake::kNeedsInput;
  peer_.handshake();
  peer_.give(handshake_pieces(*transport_, peer_.take(), 1 << 20, status));
  bool done = peer_.handshake();
  if (!done) {
    // TLS 1.2: the client has to wait for the server's Finished before it sends data.
    peer_.give(handshake_pieces(*transport_, peer_.take(), 1 << 20, status));
    done = peer_.handshake();
    ASSERT_EQ(status, Transport::Handshake::kDone);
  }
  ASSERT_TRUE(done);
  peer_.write(packet);
  const Bytes flight = peer_.take();
  ByteBuffer sink;
  transport_->feed(flight);
  if (status != Transport::Handshake::kDone) {
    ASSERT_EQ(transport_->handshake(sink), Transport::Handshake::kDone);
  }
  Bytes out(1000);
  const auto opened = transport_->open(out, sink);
  out.resize(opened.size);
  EXPECT_EQ(out, packet);
}

TEST_P(TlsTransportTest, TellsAnEndInOrderFromData) {
  shake_hands();
  const Bytes packet = plain_packet(100);
  peer_.write(packet);
  SSL_shutdown(peer_.ssl());
  const auto opened = open_all(*transport_, peer_.take());
  EXPECT_EQ(opened.plaintext, packet);
  EXPECT_EQ(opened.status, Opened::kClosed);

  ByteBuffer sink;
  EXPECT_TRUE(transport_->seal(packet, sink)) << "our side is still open";
  transport_->seal_close(sink);
  peer_.give(sink.bytes());
  EXPECT_EQ(peer_.read(), packet);
  EXPECT_EQ(peer_.last_error(), SSL_ERROR_ZERO_RETURN);
}

TEST_P(TlsTransportTest, AnnouncesItsEndOnceAndOnlyAfterTheHandshake) {
  ByteBuffer sink;
  transport_->seal_close(sink);
  EXPECT_TRUE(sink.empty());
  shake_hands();
  transport_->seal_close(sink);
  EXPECT_EQ(record_sizes(sink.bytes()).size(), 1U);
  peer_.give(sink.bytes());
  EXPECT_TRUE(peer_.read().empty());
  EXPECT_EQ(peer_.last_error(), SSL_ERROR_ZERO_RETURN);
}

TEST_P(TlsTransportTest, FailsOnATamperedRecordAndSaysSo) {
  shake_hands();
  peer_.write(plain_packet(100));
  Bytes record = peer_.take();
  record.back() ^= 1;
  const auto opened = open_all(*transport_, record);
  EXPECT_EQ(opened.status, Opened::kFailed);
  EXPECT_TRUE(opened.plaintext.empty());
  EXPECT_FALSE(transport_->failure().empty());
  EXPECT_FALSE(opened.answer.empty()) << "an alert tells the other side";
}

TEST_P(TlsTransportTest, FailsOnGarbageInTheMiddle) {
  shake_hands();
  const Bytes good = plain_packet(50);
  peer_.write(good);
  const auto opened = open_all(*transport_, test::concat({peer_.take(), Bytes(200, 0x5a)}));
  EXPECT_EQ(opened.status, Opened::kFailed);
  EXPECT_EQ(opened.plaintext, good) << "what stood in front is given";
}

TEST_P(TlsTransportTest, OneConnectionsFailureDoesNotTouchAnother) {
  // OpenSSL keeps errors per thread, and a stale one would look like the next call's.
  shake_hands();
  const auto broken = UsedTransport::make(*context_);
  auto status = Transport::Handshake::kNeedsInput;
  static_cast<void>(handshake_pieces(*broken, Bytes(100, 'x'), 100, status));
  EXPECT_EQ(status, Transport::Handshake::kFailed);
  peer_.write(plain_packet(10));
  const auto opened = open_all(*transport_, peer_.take());
  EXPECT_EQ(opened.status, Opened::kNeedsInput);
  EXPECT_EQ(opened.plaintext, plain_packet(10));
  ByteBuffer sink;
  EXPECT_TRUE(transport_->seal(plain_packet(10), sink));
}

TEST_P(TlsTransportTest, TellsTheOperatorWhenTheClientDoesNotTrustTheCertificate) {
  TlsPeer distrustful({.version = GetParam().version, .trusted_only = "nobody"});
  auto status = Transport::Handshake::kNeedsInput;
  distrustful.handshake();
  distrustful.give(handshake_pieces(*transport_, distrustful.take(), 1 << 20, status));
  EXPECT_FALSE(distrustful.handshake());
  static_cast<void>(handshake_pieces(*transport_, distrustful.take(), 1 << 20, status));
  EXPECT_EQ(status, Transport::Handshake::kFailed);
  EXPECT_TRUE(says(transport_->failure(), "sha256-raw"));
}

TEST(OpenSslTransport, RefusesWhatIsNoTlsHandshake) {
  struct Case {
    std::string_view name;
    Bytes input;
    std::string_view said;
  };
  const auto text = [](std::string_view bytes) { return test::to_bytes(as_bytes(bytes)); };
  const Case cases[] = {
      {"HTTP", text("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "does not speak TLS"},
      {"random bytes", Bytes(64, 0xa5), ""},
      {"a TLS record of no handshake", Bytes{0x17, 3, 3, 0, 2, 0, 0}, ""},
      {"a record that is too long", Bytes{0x16, 3, 1, 0xff, 0xff, 1, 2, 3}, ""},
      {"a ClientHello of nothing", Bytes{0x16, 3, 1, 0, 4, 1, 0, 0, 0}, ""},
  };
  const auto context = make_context();
  for (const auto& [name, input, said] : cases) {
    for (const std::size_t piece : {std::size_t{1}, input.size()}) {
      SCOPED_TRACE(name);
      const auto transport = OpenSslTransport::make(*context);
      auto status = Transport::Handshake::kNeedsInput;
      static_cast<void>(handshake_pieces(*transport, input, piece, status));
      EXPECT_EQ(status, Transport::Handshake::kFailed);
      EXPECT_FALSE(transport->failure().empty());
      EXPECT_TRUE(says(transport->failure(), said));
    }
  }
}

TEST(OpenSslTransport, RefusesVersionsBelow12) {
  const auto context = make_context();
  const auto transport = OpenSslTransport::make(*context);
  TlsPeer old({.version = TLS1_1_VERSION});
  EXPECT_FALSE(connect(old, *transport));
  EXPECT_FALSE(transport->failure().empty());
}

// --- TLS 1.3's own messages between data

struct Tls13 {
  Tls13() { connected = connect(peer, *transport); }
  std::unique_ptr<TlsContext> context = make_context();
  std::unique_ptr<OpenSslTransport> transport = OpenSslTransport::make(*context);
  TlsPeer peer{{.version = TLS1_3_VERSION}};
  bool connected = false;
};

TEST(OpenSslTransportKeyUpdate, DataBehindAKeyUpdateInTheSameReadIsOpened) {
  for (const int request : {SSL_KEY_UPDATE_NOT_REQUESTED, SSL_KEY_UPDATE_REQUESTED}) {
    SCOPED_TRACE(request);
    Tls13 tls;
    ASSERT_TRUE(tls.connected);
    tls.peer.write(plain_packet(100, 1));
    ASSERT_EQ(SSL_key_update(tls.peer.ssl(), request), 1);
    tls.peer.write(plain_packet(100, 2));  // Sends the KeyUpdate first.
    tls.peer.write(plain_packet(100, 3));
    const auto opened = open_all(*tls.transport, tls.peer.take());
    EXPECT_EQ(opened.status, Opened::kNeedsInput);
    EXPECT_EQ(opened.plaintext,
              test::concat({plain_packet(100, 1), plain_packet(100, 2), plain_packet(100, 3)}));

    // Both directions go on, with new keys where they were asked for.
    ByteBuffer sink;
    sink.append(opened.answer);
    ASSERT_TRUE(tls.transport->seal(plain_packet(50), sink));
    tls.peer.give(sink.bytes());
    EXPECT_EQ(tls.peer.read(), plain_packet(50));
    tls.peer.write(plain_packet(60));
    EXPECT_EQ(open_all(*tls.transport, tls.peer.take()).plaintext, plain_packet(60));
  }
}

TEST(OpenSslTransportKeyUpdate, ManyInOneReadAndAtEverySplit) {
  Tls13 tls;
  ASSERT_TRUE(tls.connected);
  for (std::size_t at = 0; at < 200; at += 3) {
    SCOPED_TRACE(at);
    Bytes wanted;
    for (std::uint8_t i = 0; i < 3; ++i) {
      ASSERT_EQ(SSL_key_update(tls.peer.ssl(), SSL_KEY_UPDATE_NOT_REQUESTED), 1);
      tls.peer.write(plain_packet(10, i));
      const Bytes packet = plain_packet(10, i);
      wanted.insert(wanted.end(), packet.begin(), packet.end());
    }
    const Bytes ciphertext = tls.peer.take();
    const std::size_t cut = std::min(at, ciphertext.size());
    Bytes opened = open_all(*tls.transport, std::span(ciphertext).first(cut)).plaintext;
    const auto rest = open_all(*tls.transport, std::span(ciphertext).subspan(cut));
    opened.insert(opened.end(), rest.plaintext.begin(), rest.plaintext.end());
    ASSERT_EQ(opened, wanted);
  }
}

TEST(OpenSslTransportSessions, SendsNoTickets) {
  Tls13 tls;
  ASSERT_TRUE(tls.connected);
  static int tickets = 0;
  SSL_CTX_sess_set_new_cb(SSL_get_SSL_CTX(tls.peer.ssl()), [](SSL*, SSL_SESSION*) {
    ++tickets;
    return 0;
  });
  ByteBuffer sink;
  ASSERT_TRUE(tls.transport->seal(plain_packet(10), sink));
  EXPECT_EQ(record_sizes(sink.bytes()).size(), 1U);
  tls.peer.give(sink.bytes());
  EXPECT_EQ(tls.peer.read(), plain_packet(10));
  EXPECT_EQ(tickets, 0);
}

// --- Names, protocols, chain

TEST(TlsContext, AsksForTheServerNameOnlyWhenTold) {
  struct Case {
    std::string_view name;
    std::string required;
    std::string sent;
    bool accepted;
  };
  const Case cases[] = {
      {"nothing required, none sent", "", "", true},
      {"nothing required, any sent", "", "other.test", true},
      {"required and sent", "relay.test", "relay.test", true},
      {"in another case", "relay.test", "RELAY.Test", true},
      {"required, none sent", "relay.test", "", false},
      {"required, another one sent", "relay.test", "other.test", false},
      {"required, a longer one sent", "relay.test", "relay.test.", false},
  };
  for (const auto& [name, required, sent, accepted] : cases) {
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
      SCOPED_TRACE(name);
      const auto context = make_context(required);
      const auto transport = OpenSslTransport::make(*context);
      TlsPeer peer({.version = version, .sni = sent});
      EXPECT_EQ(connect(peer, *transport), accepted) << transport->failure();
    }
  }
}

TEST(TlsContext, ChoosesHttp11AndServesThoseWhoOfferOthers) {
  const auto protocols = [](std::initializer_list<std::string_view> names) {
    Bytes list;
    for (const std::string_view name : names) {
      list.push_back(static_cast<std::uint8_t>(name.size()));
      list.insert(list.end(), name.begin(), name.end());
    }
    return list;
  };
  struct Case {
    std::string_view name;
    Bytes offered;
    std::string_view chosen;
    bool refused = false;
  };
  const Case cases[] = {
      {"nothing", {}, ""},
      {"HTTP/1.1 alone", protocols({"http/1.1"}), "http/1.1"},
      {"behind HTTP/2", protocols({"h2", "http/1.1"}), "http/1.1"},
      {"HTTP/2 alone", protocols({"h2"}), "", true},
      {"something longer", protocols({"http/1.10", "http/1.1x"}), "", true},
      {"an order that is over", protocols({"acme-tls/1"}), "", true},
  };
  const auto context = make_context();
  for (const auto& [name, offered, chosen, refused] : cases) {
    SCOPED_TRACE(name);
    const auto transport = OpenSslTransport::make(*context);
    TlsPeer peer({.version = TLS1_3_VERSION, .alpn = offered});
    if (refused) {
      EXPECT_FALSE(connect(peer, *transport));
      continue;
    }
    ASSERT_TRUE(connect(peer, *transport)) << transport->failure();
    const unsigned char* selected = nullptr;
    unsigned size = 0;
    SSL_get0_alpn_selected(peer.ssl(), &selected, &size);
    EXPECT_EQ(as_text({selected, size}), chosen);
  }
}

TEST(TlsContext, SendsTheWholeChainInOrder) {
  const auto chain = test::make_chain();
  const auto meta = test::make_certificate({.common_name = "derpkey00"});
  auto context =
      TlsContext::make({.leaf = chain.leaf.certificate.get(),
                        .key = chain.leaf.key.get(),
                        .chain = {chain.intermediate.certificate.get(), meta.certificate.get()},
                        .required_sni = {}});
  ASSERT_TRUE(context.has_value()) << context.error();
  const auto transport = OpenSslTransport::make(**context);
  TlsPeer peer({.version = TLS1_3_VERSION});
  ASSERT_TRUE(connect(peer, *transport)) << transport->failure();
  const STACK_OF(X509)* const sent = SSL_get_peer_cert_chain(peer.ssl());
  ASSERT_EQ(sk_X509_num(sent), 3);
  EXPECT_EQ(X509_cmp(sk_X509_value(sent, 0), chain.leaf.certificate.get()), 0);
  EXPECT_EQ(X509_cmp(sk_X509_value(sent, 1), chain.intermediate.certificate.get()), 0);
  EXPECT_EQ(X509_cmp(sk_X509_value(sent, 2), meta.certificate.get()), 0);
}

/// The leaf that a client with this name gets; null when the handshake fails.
acme::CertificatePtr shown_leaf(const TlsContext& context, const std::string& sni,
                                std::string_view local_ip = {}, const Bytes& alpn = {}) {
  const auto transport = OpenSslTransport::make(context, local_ip);
  TlsPeer peer({.version = TLS1_3_VERSION, .sni = sni, .alpn = alpn});
  if (!connect(peer, *transport)) return nullptr;
  return acme::CertificatePtr(SSL_get1_peer_certificate(peer.ssl()));
}
TlsCertificate as_shown(const test::TestCertificate& certificate, std::string dns_name = {},
                        std::string ip = {}) {
  return {.leaf = certificate.certificate.get(),
          .key = certificate.key.get(),
          .chain = {},
          .dns_name = std::move(dns_name),
          .ip = std::move(ip)};
}
bool is(const acme::CertificatePtr& shown, const test::TestCertificate& certificate) {
  return shown != nullptr && X509_cmp(shown.get(), certificate.certificate.get()) == 0;
}

TEST(TlsContext, ShowsNewCertificatesToNewConnectionsAndLeavesTheOthersAlone) {
  const auto context = make_context();
  const auto transport = OpenSslTransport::make(*context);
  TlsPeer peer({.version = TLS1_3_VERSION});
  ASSERT_TRUE(connect(peer, *transport));
  // One whose handshake is under way keeps the certificate it began with.
  const auto begun = OpenSslTransport::make(*context);

  const auto next = test::make_certificate({.common_name = "next"});
  ASSERT_TRUE(context->set_certificates(std::array{as_shown(next)}).has_value());
  EXPECT_TRUE(is(shown_leaf(*context, ""), next));
  TlsPeer early({.version = TLS1_3_VERSION});
  ASSERT_TRUE(connect(early, *begun));
  EXPECT_TRUE(
      is(acme::CertificatePtr(SSL_get1_peer_certificate(early.ssl())), server_certificate()));

  ByteBuffer sink;
  ASSERT_TRUE(transport->seal(as_bytes("still here"), sink));
  peer.give(sink.bytes());
  EXPECT_EQ(as_text(peer.read()), "still here");
}

TEST(TlsContext, KeepsTheOldCertificatesWhenNewOnesCannotBeUsed) {
  const auto context = make_context();
  const auto other = test::make_certificate({.common_name = "other"});
  TlsCertificate mixed = as_shown(other);
  mixed.key = server_certificate().key.get();
  EXPECT_FALSE(context->set_certificates(std::array{mixed}).has_value());
  EXPECT_TRUE(is(shown_leaf(*context, ""), server_certificate()));
}

TEST(TlsContext, FailsHandshakesUntilThereIsACertificateAndSaysWhatForItWaits) {
  auto made = TlsContext::make({});
  ASSERT_TRUE(made.has_value()) << made.error();
  TlsContext& context = **made;
  context.set_waiting_for("an order");
  EXPECT_EQ(shown_leaf(context, "relay.test"), nullptr);
  EXPECT_EQ(context.waiting_for(), "an order");
  ASSERT_TRUE(context.set_certificates(std::array{as_shown(server_certificate())}).has_value());
  EXPECT_NE(shown_leaf(context, "relay.test"), nullptr);
  EXPECT_EQ(context.waiting_for(), "");
  context.set_waiting_for("too late");
  EXPECT_EQ(context.waiting_for(), "");
}

TEST(TlsContext, ChoosesByNameAndByTheAddressThatWasReached) {
  const auto name = test::make_certificate({.common_name = "name"});
  const auto first = test::make_certificate({.common_name = "first"});
  const auto second = test::make_certificate({.common_name = "second"});
  for (const bool strict : {false, true}) {
    SCOPED_TRACE(strict);
    auto made = TlsContext::make({.required_sni = strict ? "relay.test" : ""});
    ASSERT_TRUE(made.has_value());
    TlsContext& context = **made;
    EXPECT_FALSE(context.depends_on_address());
    ASSERT_TRUE(context
                    .set_certificates(std::array{as_shown(name, "relay.test"),
                                                 as_shown(first, "", "192.0.2.1"),
                                                 as_shown(second, "", "2001:db8::2")})
                    .has_value());
    EXPECT_TRUE(context.depends_on_address());
    EXPECT_TRUE(is(shown_leaf(context, "relay.test", "192.0.2.1"), name));
    EXPECT_TRUE(is(shown_leaf(context, "RELAY.test", "2001:db8::2"), name));
    EXPECT_TRUE(is(shown_leaf(context, "", "192.0.2.1"), first));
    EXPECT_TRUE(is(shown_leaf(context, "", "2001:db8::2"), second));
    EXPECT_TRUE(is(shown_leaf(context, "2001:db8::2", "2001:db8::2"), second));
    EXPECT_TRUE(is(shown_leaf(context, "", "10.0.0.1"), first)) << "behind address translation";
    const auto other = shown_leaf(context, "other.test", "192.0.2.1");
    EXPECT_EQ(other == nullptr, strict);
  }
}

TEST(TlsContext, ShowsAChallengeToWhomItIsForAndNobodyElse) {
  const auto challenge = test::make_certificate({.common_name = "challenge"});
  const auto acme = Bytes{10, 'a', 'c', 'm', 'e', '-', 't', 'l', 's', '/', '1'};
  auto both = acme;
  both.insert(both.end(), {8, 'h', 't', 't', 'p', '/', '1', '.', '1'});
  auto empty = TlsContext::make({.required_sni = "relay.test"});
  ASSERT_TRUE(empty.has_value());
  const auto full = make_context("relay.test");
  for (TlsContext* const context : {empty->get(), full.get()}) {
    ASSERT_TRUE(
        context->add_challenge("relay.test", challenge.certificate.get(), challenge.key.get())
            .has_value());
    const auto transport = OpenSslTransport::make(*context);
    TlsPeer peer({.version = TLS1_3_VERSION, .sni = "relay.test", .alpn = acme});
    ASSERT_TRUE(connect(peer, *transport)) << transport->failure();
    EXPECT_TRUE(is(acme::CertificatePtr(SSL_get1_peer_certificate(peer.ssl())), challenge));
    const unsigned char* selected = nullptr;
    unsigned size = 0;
    SSL_get0_alpn_selected(peer.ssl(), &selected, &size);
    EXPECT_EQ(as_text({selected, size}), "acme-tls/1");

    EXPECT_TRUE(is(shown_leaf(*context, "Relay.TEST", {}, acme), challenge));
    EXPECT_FALSE(is(shown_leaf(*context, "relay.test"), challenge));
    EXPECT_FALSE(is(shown_leaf(*context, "relay.test", {}, both), challenge));
    EXPECT_FALSE(is(shown_leaf(*context, "other.test", {}, acme), challenge));
    EXPECT_FALSE(is(shown_leaf(*context, "", {}, acme), challenge));
    context->remove_challenge("relay.test");
    EXPECT_FALSE(is(shown_leaf(*context, "relay.test", {}, acme), challenge));
  }
}

TEST(TlsContext, SaysWhichPartOpenSslRefuses) {
  const auto other = test::make_certificate({.common_name = "other.test"});
  const auto context = TlsContext::make({.leaf = server_certificate().certificate.get(),
                                         .key = other.key.get(),
                                         .chain = {},
                                         .required_sni = {}});
  ASSERT_FALSE(context.has_value());
  EXPECT_TRUE(says(context.error(), "the certificate's key"));
}

}  // namespace
}  // namespace detour::net
