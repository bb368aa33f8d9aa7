#include "derp/handshake.h"

#include <gtest/gtest.h>

#include <string>

#include "support/hex.h"
#include "support/keys.h"

namespace detour::derp {
namespace {

using crypto::kKeySize;
using crypto::MeshKey;
using crypto::NodePrivate;
using crypto::NodePublic;
using crypto::SharedKey;

// Golden frames are those of docs/protocol.md, Handshake, computed there from its example keys.
constexpr std::string_view kClientInfoHex =
    "0200000068 0faa684ed28867b97f4a6a2dee5df8ce974e76b7018e3f22a1c4cf2678570f20"
    "000102030405060708090a0b0c0d0e0f1011121314151617 a858a062bb55fbd0e565bf952225b5e2"
    "20ae6ff32ce093a7548f0f9efd7331db8b94711fe4546f1ed0d738121d94abe3";
constexpr std::string_view kMeshClientInfoHex =
    "02000000b6 ff2ee45601ec1b67310c7790404585ae697331eee1c1f8cf2419731c1fff3e6b"
    "404142434445464748494a4b4c4d4e4f5051525354555657 123b196632dbf07376ca91a90a6ad782"
    "80ff2263fe85ceb53b5242c18173aff29b0aac17c32788da0504f3062131d94f360d818e2ee5c7a7f66a"
    "a67872b6010e2912801364aeb58c4c88c925f5653f7d43771799be6bc3933fe1cc3ecf660745677c3405"
    "faa81d2a57a0c424d2db40529487dbd1eb5a5a01213c2606bf75";
constexpr std::string_view kServerInfoHex =
    "0300000035 808182838485868788898a8b8c8d8e8f9091929394959697"
    "79d9225ad8cb677a1c028985794fd239 1d7b9b43a3b5de92f33166507b";
const std::string kMeshKeyDigits =
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

SharedKey relay_and_client_a() {
  return SharedKey::derive(test::relay_private(), test::client_a_public()).value();
}

/// A ClientInfo payload of client A whose box holds `json`.
std::vector<std::uint8_t> sealed_client_info(std::string_view json) {
  const auto key = test::client_a_public();
  std::vector<std::uint8_t> payload(key.bytes().begin(), key.bytes().end());
  const auto box = relay_and_client_a().seal(as_bytes(json));
  payload.insert(payload.end(), box.begin(), box.end());
  return payload;
}

std::vector<std::uint8_t> payload_of(std::span<const std::uint8_t> frame) {
  return {frame.begin() + kFrameHeaderSize, frame.end()};
}

TEST(ParseClientInfo, ReadsEachField) {
  const auto info = parse_client_info(R"({"meshKey":")" + kMeshKeyDigits +
                                      R"(","version":2,"CanAckPings":true,"IsProber":true,)"
                                      R"("AppName":"tsnet"})");
  ASSERT_TRUE(info.has_value());
  ASSERT_TRUE(info->mesh_key.has_value());
  EXPECT_EQ(info->mesh_key->hex_secret(), kMeshKeyDigits);
  EXPECT_EQ(info->version, 2);
  EXPECT_TRUE(info->can_ack_pings);
  EXPECT_TRUE(info->is_prober);
  EXPECT_EQ(info->app_name, "tsnet");
}

TEST(ParseClientInfo, LeavesOutWhatIsNotSent) {
  for (const std::string_view json : {"{}", "null", R"({"unknown":{"version":"x"}})"}) {
    SCOPED_TRACE(json);
    const auto info = parse_client_info(json);
    ASSERT_TRUE(info.has_value());
    EXPECT_FALSE(info->mesh_key.has_value());
    EXPECT_EQ(info->version, 0);
    EXPECT_FALSE(info->can_ack_pings);
    EXPECT_FALSE(info->is_prober);
    EXPECT_EQ(info->app_name, "");
  }
}

TEST(ParseClientInfo, FollowsGoOnNamesDuplicatesAndNull) {
  EXPECT_EQ(parse_client_info(R"({"Version":2,"VERSION":3})")->version, 3);
  EXPECT_EQ(parse_client_info(R"({"version":2,"version":null})")->version, 2);
  EXPECT_TRUE(parse_client_info(R"({"canackpings":true,"CanAckPings":null})")->can_ack_pings);
  EXPECT_TRUE(parse_client_info(R"({"ISPROBER":true})")->is_prober);
  EXPECT_EQ(parse_client_info(R"({"AppName":"x","appname":null})")->app_name, "x");
  const auto upper = parse_client_info(R"({"MeshKey":"\u0030)" + kMeshKeyDigits.substr(1) + "\"}");
  EXPECT_EQ(upper->mesh_key->hex_secret(), kMeshKeyDigits);
}

TEST(ParseClientInfo, TakesAnAllZeroMeshKeyForNone) {
  const std::string zero(64, '0');
  EXPECT_FALSE(parse_client_info(R"({"meshKey":")" + zero + "\"}")->mesh_key.has_value());
  EXPECT_FALSE(
      parse_client_info(R"({"meshKey":")" + kMeshKeyDigits + R"(","meshKey":")" + zero + "\"}")
          ->mesh_key.has_value());
}

TEST(ParseClientInfo, RefusesWithTheReason) {
  struct Case {
    std::string_view name;
    std::string json;
    ErrorCode expected;
  };
  using enum ErrorCode;
  const Case kCases[] = {
      {"empty", "", kJsonInvalid},
      {"truncated", R"({"version":2)", kJsonInvalid},
      {"trailing text", "{} {}", kJsonInvalid},
      {"array", "[]", kJsonFieldInvalid},
      {"version is a string", R"({"version":"2"})", kJsonFieldInvalid},
      {"version is a float", R"({"version":2.0})", kJsonFieldInvalid},
      {"version has an exponent", R"({"version":1e3})", kJsonFieldInvalid},
      {"version beyond int64", R"({"version":9223372036854775808})", kJsonFieldInvalid},
      {"version is an object", R"({"version":{}})", kJsonFieldInvalid},
      {"only the first version is bad", R"({"version":[],"version":2})", kJsonFieldInvalid},
      {"CanAckPings is a number", R"({"CanAckPings":1})", kJsonFieldInvalid},
      {"IsProber is a string", R"({"IsProber":"true"})", kJsonFieldInvalid},
      {"AppName is a number", R"({"AppName":3})", kJsonFieldInvalid},
      {"meshKey is null", R"({"meshKey":null})", kMeshKeyInvalid},
      {"meshKey is empty", R"({"meshKey":""})", kMeshKeyInvalid},
      {"meshKey is a number", R"({"meshKey":5})", kMeshKeyInvalid},
      {"meshKey has 63 digits", R"({"meshKey":")" + kMeshKeyDigits.substr(1) + "\"}",
       kMeshKeyInvalid},
      {"meshKey has 65 digits", R"({"meshKey":")" + kMeshKeyDigits + "0\"}", kMeshKeyInvalid},
      {"meshKey has spaces", R"({"meshKey":" )" + kMeshKeyDigits + "\"}", kMeshKeyInvalid},
      {"only the first meshKey is bad", R"({"meshKey":"","meshKey":")" + kMeshKeyDigits + "\"}",
       kMeshKeyInvalid},
  };
  for (const auto& [name, json, expected] : kCases) {
    SCOPED_TRACE(name);
    const auto info = parse_client_info(json);
    ASSERT_FALSE(info.has_value());
    EXPECT_EQ(info.error().code, expected);
  }
}

TEST(ParseClientInfo, HoldsAppNamesTo32PrintableCharacters) {
  struct Case {
    std::string_view name;
    std::string app_name;  ///< As it stands in the JSON.
    bool accepted;
  };
  const Case kCases[] = {
      {"empty", "", true},
      {"32 bytes", std::string(32, 'a'), true},
      {"33 bytes", std::string(33, 'a'), false},
      {"first and last printable", " ~", true},
      {"control character", R"(a\u001f)", false},
      {"delete", R"(\u007f)", false},
      {"NUL", R"(\u0000)", false},
      {"beyond ASCII", "\u00e9", false},
  };
  for (const auto& [name, app_name, accepted] : kCases) {
    SCOPED_TRACE(name);
    const auto info = parse_client_info(R"({"AppName":")" + app_name + "\"}");
    EXPECT_EQ(info.has_value(), accepted);
    if (!info) {
      EXPECT_EQ(info.error().code, ErrorCode::kAppNameInvalid);
    }
  }
  // Only the last one counts.
  const std::string twice = R"({"AppName":")" + std::string(40, 'x') + R"(","AppName":"ok"})";
  EXPECT_EQ(parse_client_info(twice)->app_name, "ok");
}

TEST(FormatClientInfo, IsWhatTheOfficialClientSends) {
  EXPECT_EQ(format_client_info({.version = 2, .can_ack_pings = true}),
            R"({"version":2,"CanAckPings":true})");
  EXPECT_EQ(format_client_info({}), R"({"CanAckPings":false})");
  EXPECT_EQ(format_client_info({.mesh_key = MeshKey::parse(kMeshKeyDigits).value(), .version = 2}),
            R"({"meshKey":")" + kMeshKeyDigits + R"(","version":2,"CanAckPings":false})");
}

TEST(FormatClientInfo, SurvivesARoundTrip) {
  const ClientInfo info{.mesh_key = MeshKey::parse(kMeshKeyDigits).value(),
                        .version = -7,
                        .can_ack_pings = true,
                        .is_prober = true,
                        .app_name = R"(a "quoted" \ name)"};
  const auto read = parse_client_info(format_client_info(info));
  ASSERT_TRUE(read.has_value());
  EXPECT_TRUE(read->mesh_key->matches(*info.mesh_key));
  EXPECT_EQ(read->version, info.version);
  EXPECT_EQ(read->can_ack_pings, info.can_ack_pings);
  EXPECT_EQ(read->is_prober, info.is_prober);
  EXPECT_EQ(read->app_name, info.app_name);
}

TEST(AdmitClientInfo, HoldsTheFirstFrameToItsLimits) {
  struct Case {
    std::string_view name;
    FrameHeader header;
    std::optional<ErrorCode> expected;
  };
  constexpr Case kCases[] = {
      {"55 bytes", {FrameType::kClientInfo, 55}, ErrorCode::kClientInfoTooShort},
      {"key and nonce", {FrameType::kClientInfo, 56}, std::nullopt},
      {"256 KiB", {FrameType::kClientInfo, 262144}, std::nullopt},
      {"one byte larger", {FrameType::kClientInfo, 262145}, ErrorCode::kClientInfoTooLong},
      {"another type", {FrameType::kSendPacket, 72}, ErrorCode::kFirstFrameNotClientInfo},
      {"an unknown type", {FrameType{0x7f}, 72}, ErrorCode::kFirstFrameNotClientInfo},
      {"HTTP instead of frames", {FrameType{'G'}, 0x45542030}, ErrorCode::kFirstFrameNotClientInfo},
  };
  for (const auto& [name, header, expected] : kCases) {
    SCOPED_TRACE(name);
    const auto admitted = admit_client_info(header);
    EXPECT_EQ(admitted.has_value(), !expected.has_value());
    if (expected && !admitted) {
      EXPECT_EQ(admitted.error().code, *expected);
    }
  }
}

TEST(OpenClientInfo, OpensTheGoldenFrame) {
  const auto hello =
      open_client_info(payload_of(test::unhex(kClientInfoHex)), test::relay_private());
  ASSERT_TRUE(hello.has_value());
  EXPECT_EQ(hello->key, test::client_a_public());
  EXPECT_EQ(hello->info.version, 2);
  EXPECT_TRUE(hello->info.can_ack_pings);
  EXPECT_FALSE(hello->info.mesh_key.has_value());
}

TEST(OpenClientInfo, OpensTheGoldenFrameOfAMeshPeer) {
  const auto hello =
      open_client_info(payload_of(test::unhex(kMeshClientInfoHex)), test::relay_private());
  ASSERT_TRUE(hello.has_value());
  EXPECT_EQ(hello->key, test::mesh_peer_public());
  EXPECT_TRUE(hello->info.mesh_key->matches(MeshKey::parse(kMeshKeyDigits).value()));
  EXPECT_FALSE(hello->info.can_ack_pings);
}

TEST(OpenClientInfo, RefusesEveryTruncationOfTheGoldenFrame) {
  const auto payload = payload_of(test::unhex(kClientInfoHex));
  const auto relay_key = test::relay_private();
  for (std::size_t size = 0; size < payload.size(); ++size) {
    const auto hello = open_client_info(std::span(payload).first(size), relay_key);
    ASSERT_FALSE(hello.has_value()) << size;
    EXPECT_EQ(hello.error().code,
              size < 56 ? ErrorCode::kClientInfoTooShort : ErrorCode::kBoxInvalid);
  }
}

TEST(OpenClientInfo, RefusesAWrongKeyOfEitherSide) {
  auto payload = payload_of(test::unhex(kClientInfoHex));
  EXPECT_EQ(open_client_info(payload, test::client_b_private()).error().code,
            ErrorCode::kBoxInvalid);

  const auto other = test::client_b_public();
  std::copy(other.bytes().begin(), other.bytes().end(), payload.begin());
  EXPECT_EQ(open_client_info(payload, test::relay_private()).error().code, ErrorCode::kBoxInvalid);

  std::fill_n(payload.begin(), kKeySize, std::uint8_t{0});
  EXPECT_EQ(open_client_info(payload, test::relay_private()).error().code,
            ErrorCode::kClientKeyInvalid);
}

TEST(OpenClientInfo, RemembersAClientWhoseBoxWasOpened) {
  crypto::SharedKeyCache known(1);
  const auto payload = payload_of(test::unhex(kClientInfoHex));
  auto forged = payload;
  forged.back() ^= 1;

  EXPECT_EQ(open_client_info(forged, test::relay_private(), &known).error().code,
            ErrorCode::kBoxInvalid);
  EXPECT_EQ(known.size(), 0U);
  for (int login = 0; login < 2; ++login) {
    const auto hello = open_client_info(payload, test::relay_private(), &known);
    ASSERT_TRUE(hello.has_value());
    EXPECT_EQ(hello->key, test::client_a_public());
    EXPECT_EQ(known.size(), 1U);
  }
  EXPECT_EQ(open_client_info(forged, test::relay_private(), &known).error().code,
            ErrorCode::kBoxInvalid);
}

TEST(OpenClientInfo, HoldsThePayloadToItsLimits) {
  // White space around the object is legal JSON, which makes any size possible.
  const std::size_t overhead = kKeySize + crypto::kBoxOverhead;
  std::string json(kClientInfoSizeMax - overhead, ' ');
  json.replace(0, 2, "{}");
  EXPECT_TRUE(open_client_info(sealed_client_info(json), test::relay_private()).has_value());
  json += ' ';
  EXPECT_EQ(open_client_info(sealed_client_info(json), test::relay_private()).error().code,
            ErrorCode::kClientInfoTooLong);
}

TEST(OpenClientInfo, GivesTheReasonWhenTheJsonIsRefused) {
  const auto open = [](std::string_view json) {
    return open_client_info(sealed_client_info(json), test::relay_private()).error().code;
  };
  EXPECT_EQ(open(""), ErrorCode::kJsonInvalid);
  EXPECT_EQ(open(R"({"meshKey":null})"), ErrorCode::kMeshKeyInvalid);
  EXPECT_EQ(open(R"({"version":false})"), ErrorCode::kJsonFieldInvalid);
}

TEST(EncodeClientInfo, IsOpenedByTheRelay) {
  const auto shared = SharedKey::derive(test::client_a_private(), test::relay_public()).value();
  const auto frame =
      encode_client_info(test::client_a_public(), shared, {.version = 2, .can_ack_pings = true});
  const auto header = read_frame_header(std::span(frame).first<kFrameHeaderSize>());
  EXPECT_EQ(header.payload_size, frame.size() - kFrameHeaderSize);
  EXPECT_TRUE(admit_client_info(header).has_value());

  const auto hello = open_client_info(payload_of(frame), test::relay_private());
  ASSERT_TRUE(hello.has_value());
  EXPECT_EQ(hello->key, test::client_a_public());
  EXPECT_EQ(hello->info.version, 2);
}

TEST(ServerInfo, IsOpenedByTheClient) {
  const auto frame = encode_server_info(relay_and_client_a());
  EXPECT_EQ(frame.size(), test::unhex(kServerInfoHex).size());
  const auto header = read_frame_header(std::span(frame).first<kFrameHeaderSize>());
  EXPECT_EQ(header, (FrameHeader{.type = FrameType::kServerInfo, .payload_size = 53}));

  const auto shared = SharedKey::derive(test::client_a_private(), test::relay_public()).value();
  EXPECT_EQ(open_server_info(payload_of(frame), shared), 2);
}

TEST(ServerInfo, OpensTheGoldenFrameAndRefusesItsTruncations) {
  const auto payload = payload_of(test::unhex(kServerInfoHex));
  EXPECT_EQ(open_server_info(payload, relay_and_client_a()), 2);
  for (std::size_t size = 0; size < payload.size(); ++size) {
    EXPECT_FALSE(
        open_server_info(std::span(payload).first(size), relay_and_client_a()).has_value());
  }
}

TEST(ServerInfo, IgnoresFieldsItDoesNotKnow) {
  const auto shared = relay_and_client_a();
  const auto open = [&shared](std::string_view json) {
    return open_server_info(shared.seal(as_bytes(json)), shared);
  };
  EXPECT_EQ(open(R"({"version":2,"TokenBucketBytesPerSecond":1000})"), 2);
  EXPECT_EQ(open("{}"), 0);
  EXPECT_EQ(open(R"({"version":"2"})").error().code, ErrorCode::kJsonFieldInvalid);
  EXPECT_EQ(open("{").error().code, ErrorCode::kJsonInvalid);
}

}  // namespace
}  // namespace detour::derp
