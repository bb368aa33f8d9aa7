#include "net/record_transport.h"

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "net/tls_peer.h"
#include "support/frames.h"
#include "support/hex.h"
#include "support/record_forge.h"
#include "support/says.h"

namespace detour::net {
namespace {

using Opened = Transport::Opened;
using test::plain_packet;
using Forge = test::RecordForge;
using test::says;

constexpr std::uint8_t kAlert = 21;
constexpr std::uint8_t kHandshake = 22;
constexpr std::uint8_t kData = 23;
constexpr std::size_t kContentMax = 16384;

const Bytes kKeyUpdateQuiet = {24, 0, 0, 1, 0};
const Bytes kKeyUpdateAsking = {24, 0, 0, 1, 1};

class RecordTransportTest : public testing::TestWithParam<RecordKey::Backend> {
 protected:
  void SetUp() override {
    if (!RecordKey::has_backend(GetParam()))
      GTEST_SKIP() << "this machine lacks " << RecordKey::name_of(GetParam());
    server_ = make(client_secret_, server_secret_);
    client_ = make(server_secret_, client_secret_);
  }

  [[nodiscard]] static std::unique_ptr<Transport> make(
      const Bytes& read, const Bytes& write,
      std::uint64_t records_per_key_max = RecordTransport::kRecordsPerKeyMax) {
    return std::make_unique<UsedTransport>(
        RecordTransport::make({.read = tls13::Secret(std::span<const std::uint8_t>(read)),
                               .write = tls13::Secret(std::span<const std::uint8_t>(write)),
                               .backend = GetParam(),
                               .records_per_key_max = records_per_key_max}));
  }
  [[nodiscard]] static Bytes seal(Transport& transport, const Bytes& plaintext) {
    ByteBuffer sink;
    EXPECT_TRUE(transport.seal(plaintext, sink));
    return {sink.bytes().begin(), sink.bytes().end()};
  }
  /// The server refuses `record`: it says so to itself and by an alert to the client.
  void expect_refused(const Bytes& record, std::string_view alert, std::string_view reason) {
    const auto opened = open_all(*server_, record);
    EXPECT_EQ(opened.status, Opened::kFailed);
    EXPECT_EQ(opened.plaintext, Bytes{});
    EXPECT_TRUE(says(server_->failure(), std::string(reason)));
    const auto answer = open_all(*client_, opened.answer);
    EXPECT_EQ(answer.status, Opened::kFailed);
    EXPECT_TRUE(says(client_->failure(), std::string(alert)));
    // It stays refused, and nothing more goes out.
    EXPECT_EQ(open_all(*server_, record).status, Opened::kFailed);
    ByteBuffer sink;
    EXPECT_FALSE(server_->seal(plain_packet(1), sink));
    server_->seal_close(sink);
    EXPECT_TRUE(sink.empty());
  }

  const Bytes client_secret_ = Bytes(32, 0xc1);
  const Bytes server_secret_ = Bytes(32, 0x5e);
  std::unique_ptr<Transport> server_;
  std::unique_ptr<Transport> client_;
  Forge forge_{client_secret_};
};

INSTANTIATE_TEST_SUITE_P(Backends, RecordTransportTest,
                         testing::Values(RecordKey::Backend::kIpsecMb, RecordKey::Backend::kEvp),
                         [](const auto& backend) {
                           return backend.param == RecordKey::Backend::kEvp ? "Evp" : "IpsecMb";
                         });

TEST_P(RecordTransportTest, GivesAndTakesTheRecordsOfRfc8448) {
  // Section 3: the client's data, the server's data behind a first record, both ends' close_notify.
  const Bytes client_secret =
      test::unhex("9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5");
  const Bytes server_secret =
      test::unhex("a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643");
  const Bytes client_record = test::unhex(
      "1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b46b395bd54a9a20"
      "441e2b62974e1f5a6292a2977014bd1e3deae63aeebb21694915e4");
  const Bytes server_record = test::unhex(
      "17030300432e937e11ef4ac740e538ad36005fc4a46932fc3225d05f82aa1b36e30efaf97d90e6dffc602dcb50"
      "1a59a8fcc49c4bf2e5f0a21c0047c2abf332540dd032e167c2955d");
  const Bytes client_close = test::unhex("1703030013c9872760655666b74d7ff1153efd6db6d0b0e3");
  const Bytes server_close = test::unhex("1703030013b58fd67166ebf599d24720cfbe7efa7a8864a9");
  Bytes data(50);
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::uint8_t>(i);

  const auto server = make(client_secret, server_secret);
  EXPECT_EQ(open_all(*server, client_record).plaintext, data);
  static_cast<void>(seal(*server, {1}));  // In its place the RFC has a session ticket.
  EXPECT_EQ(test::hex(seal(*server, data)), test::hex(server_record));
  EXPECT_EQ(open_all(*server, client_close).status, Opened::kClosed);
  ByteBuffer sink;
  server->seal_close(sink);
  EXPECT_EQ(test::hex(Bytes(sink.bytes().begin(), sink.bytes().end())), test::hex(server_close));
}

TEST_P(RecordTransportTest, TakesTheLongestRecordAndPaddingAndRefusesAByteMore) {
  const Bytes longest = plain_packet(kContentMax);
  EXPECT_EQ(open_all(*server_, forge_.record(kData, longest)).plaintext, longest);
  EXPECT_EQ(open_all(*server_, forge_.record(kData, {7}, kContentMax - 1)).plaintext, Bytes{7});
  expect_refused(forge_.record(kData, {7}, kContentMax), "record overflow", "too long");
}

TEST_P(RecordTransportTest, RefusesARecordWhoseHeaderSaysTooMuchBeforeItHasCome) {
  expect_refused({kData, 3, 3, 0x41, 0x01}, "record overflow", "too long");
}

TEST_P(RecordTransportTest, WaitsForARecordOfTheLongestSizeThatIsAllowed) {
  const auto opened = open_all(*server_, Bytes{kData, 3, 3, 0x41, 0x00});
  EXPECT_EQ(opened.status, Opened::kNeedsInput);
  EXPECT_EQ(opened.answer, Bytes{});
}

TEST_P(RecordTransportTest, RefusesWhatIsNoRecordOfThisConnection) {
  struct Case {
    const char* name;
    std::function<Bytes(Forge&)> record;
    const char* alert;
    const char* reason;
  };
  const Case cases[] = {
      {"ChangeCipherSpec", [](Forge&) { return Bytes{20, 3, 3, 0, 1, 1}; }, "unexpected_message",
       "not encrypted"},
      {"an alert in the clear", [](Forge&) { return Bytes{21, 3, 3, 0, 2, 1, 0}; },
       "unexpected_message", "not encrypted"},
      {"too short for type and tag",
       [](Forge&) { return test::concat({{23, 3, 3, 0, 16}, Bytes(16)}); }, "bad record mac",
       "too short"},
      {"sealed with another key", [](Forge&) { return Forge(Bytes(32, 0x77)).record(kData, {1}); },
       "bad record mac", "agreed key"},
      {"only padding", [](Forge& forge) { return forge.raw(Bytes(20, 0)); }, "unexpected_message",
       "without a type"},
      {"an unknown type", [](Forge& forge) { return forge.record(24, {1}); }, "unexpected_message",
       "unknown type"},
      {"an alert of one byte", [](Forge& forge) { return forge.record(kAlert, {1}); },
       "decode error", "wrong size"},
      {"an empty piece of a handshake", [](Forge& forge) { return forge.record(kHandshake, {}); },
       "unexpected_message", "empty piece"},
      {"a session ticket", [](Forge& forge) { return forge.record(kHandshake, {4, 0, 0, 1, 0}); },
       "unexpected_message", "other than KeyUpdate"},
      {"a KeyUpdate of the wrong size",
       [](Forge& forge) { return forge.record(kHandshake, {24, 0, 0, 2, 0}); },
       "unexpected_message", "other than KeyUpdate"},
      {"a KeyUpdate and more in one record",
       [](Forge& forge) { return forge.record(kHandshake, {24, 0, 0, 1, 0, 24}); },
       "unexpected_message", "other than KeyUpdate"},
      {"a KeyUpdate that asks for what there is not",
       [](Forge& forge) { return forge.record(kHandshake, {24, 0, 0, 1, 2}); }, "illegal parameter",
       "unknown"},
      {"data inside a KeyUpdate",
       [](Forge& forge) {
         return test::concat({forge.record(kHandshake, {24, 0}), forge.record(kData, {1})});
       },
       "unexpected_message", "in the middle"},
  };
  for (const auto& [name, record, alert, reason] : cases) {
    SCOPED_TRACE(name);
    SetUp();
    Forge forge(client_secret_);
    expect_refused(record(forge), alert, reason);
  }
}

TEST_P(RecordTransportTest, RecordsWithoutDataAreBoundedUntilDataComes) {
  const auto idle = [this](std::uint32_t count) {
    Bytes records;
    for (std::uint32_t i = 0; i < count; ++i)
      records = test::concat({records, forge_.record(kData, {}, i)});
    return records;
  };
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(open_all(*server_, idle(RecordTransport::kIdleRecordsMax)).status,
              Opened::kNeedsInput);
    EXPECT_EQ(open_all(*server_, forge_.record(kData, {1})).plaintext, Bytes{1});
  }
  expect_refused(idle(RecordTransport::kIdleRecordsMax + 1), "unexpected_message", "in a row");
}

TEST_P(RecordTransportTest, FollowsAKeyUpdateInPiecesAndWhole) {
  for (std::size_t cut = 1; cut <= kKeyUpdateQuiet.size(); ++cut) {
    SCOPED_TRACE(cut);
    const auto middle = kKeyUpdateQuiet.begin() + static_cast<std::ptrdiff_t>(cut);
    Bytes records = forge_.record(kHandshake, Bytes(kKeyUpdateQuiet.begin(), middle));
    if (cut < kKeyUpdateQuiet.size())
      records =
          test::concat({records, forge_.record(kHandshake, Bytes(middle, kKeyUpdateQuiet.end()))});
    forge_.update();
    const auto opened = open_all(*server_, test::concat({records, forge_.record(kData, {9})}));
    EXPECT_EQ(opened.plaintext, Bytes{9});
    EXPECT_EQ(opened.answer, Bytes{}) << "nobody asked for an answer";
  }
}

TEST_P(RecordTransportTest, AnswersAKeyUpdateThatAsksAndGoesOnWithNewKeys) {
  const auto asked = open_all(*server_, forge_.record(kHandshake, kKeyUpdateAsking));
  EXPECT_EQ(asked.status, Opened::kNeedsInput);
  EXPECT_FALSE(asked.answer.empty());
  EXPECT_EQ(open_all(*client_, asked.answer).answer, Bytes{}) << "an answer asks for nothing";
  EXPECT_EQ(open_all(*client_, seal(*server_, plain_packet(100))).plaintext, plain_packet(100));
}

TEST_P(RecordTransportTest, ChangesItsKeyByItselfBeforeTheLimit) {
  const auto server = make(client_secret_, server_secret_, /*records_per_key_max=*/3);
  Bytes sent;
  for (std::uint8_t i = 0; i < 20; ++i) {
    const auto opened = open_all(*client_, seal(*server, plain_packet(10, i)));
    ASSERT_EQ(opened.plaintext, plain_packet(10, i));
    ASSERT_EQ(opened.answer, Bytes{});
  }
}

TEST_P(RecordTransportTest, TellsAnAlertFromAnEndInOrder) {
  EXPECT_EQ(open_all(*server_, forge_.record(kAlert, {1, 90})).status, Opened::kNeedsInput);
  const auto opened = open_all(*server_, forge_.record(kAlert, {2, 42}));
  EXPECT_EQ(opened.status, Opened::kFailed);
  EXPECT_EQ(opened.answer, Bytes{}) << "an alert is not answered";
  EXPECT_TRUE(says(server_->failure(), "bad certificate"));

  SetUp();
  ByteBuffer sink;
  client_->seal_close(sink);
  client_->seal_close(sink);
  const auto closed = open_all(*server_, sink.bytes());
  EXPECT_EQ(closed.status, Opened::kClosed);
}

TEST_P(RecordTransportTest, WorksOnAfterARest) {
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 40; ++i)
      ASSERT_EQ(open_all(*client_, seal(*server_, plain_packet(50))).plaintext, plain_packet(50));
    server_->rest();
    client_->rest();
  }
}

}  // namespace
}  // namespace detour::net
