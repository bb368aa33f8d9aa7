#include "derp/frame.h"

#include <gtest/gtest.h>

#include <limits>
#include <numeric>
#include <string>

#include "support/hex.h"
#include "support/keys.h"

namespace detour::derp {
namespace {

using crypto::kKeySize;
using crypto::NodePublic;

constexpr std::uint32_t kAnySizeMax = std::numeric_limits<std::uint32_t>::max();

// Golden frames are those of docs/protocol.md, computed there from its example keys.
constexpr std::string_view kServerKeyHex =
    "0100000028 44455250f09f9491"
    "7b4e909bbe7ffe44c465a220037d608ee35897d31ef972f07f74892cb0f73f13";
constexpr std::string_view kSendHelloHex =
    "0400000025 7b0d47d93427f8311160781c7c733fd89f88970aef490d8aa0ee19a4cb8a1b14 68656c6c6f";
constexpr std::string_view kRecvHelloHex =
    "0500000025 0faa684ed28867b97f4a6a2dee5df8ce974e76b7018e3f22a1c4cf2678570f20 68656c6c6f";
constexpr std::string_view kPeerGoneDisconnectedHex =
    "0800000021 0faa684ed28867b97f4a6a2dee5df8ce974e76b7018e3f22a1c4cf2678570f20 00";
constexpr std::string_view kPeerGoneNotHereHex =
    "0800000021 7b0d47d93427f8311160781c7c733fd89f88970aef490d8aa0ee19a4cb8a1b14 01";
constexpr std::string_view kDiscoFrameHex =
    "040000005e 7b0d47d93427f8311160781c7c733fd89f88970aef490d8aa0ee19a4cb8a1b14"
    "5453f09f92ac 7b0d47d93427f8311160781c7c733fd89f88970aef490d8aa0ee19a4cb8a1b14"
    "000000000000000000000000000000000000000000000000";

constexpr std::string_view kForwardHelloHex =
    "0a00000045 0faa684ed28867b97f4a6a2dee5df8ce974e76b7018e3f22a1c4cf2678570f20"
    "7b0d47d93427f8311160781c7c733fd89f88970aef490d8aa0ee19a4cb8a1b14 68656c6c6f";
constexpr std::string_view kPeerPresentHex =
    "0900000034 0faa684ed28867b97f4a6a2dee5df8ce974e76b7018e3f22a1c4cf2678570f20"
    "00000000000000000000ffffcb007107 a2a9 01 00";
constexpr std::string_view kPeerPresentMeshHex =
    "0900000038 ff2ee45601ec1b67310c7790404585ae697331eee1c1f8cf2419731c1fff3e6b"
    "20010db8000000000000000000000001 c738 02 04 74657374";

std::vector<std::uint8_t> payload_of(std::string_view frame_hex) {
  const auto frame = test::unhex(frame_hex);
  return {frame.begin() + kFrameHeaderSize, frame.end()};
}

TEST(FrameHeader, SurvivesARoundTripForAnyTypeAndSize) {
  for (const std::uint32_t size : {0U, 1U, 0x01020304U, kAnySizeMax}) {
    for (unsigned type = 0; type <= 0xff; ++type) {
      const FrameHeader header{.type = FrameType{static_cast<std::uint8_t>(type)},
                               .payload_size = size};
      std::array<std::uint8_t, kFrameHeaderSize> bytes;
      write_frame_header(bytes, header);
      EXPECT_EQ(read_frame_header(bytes), header);
    }
  }
}

TEST(FrameHeader, IsTypeThenBigEndianSize) {
  std::array<std::uint8_t, kFrameHeaderSize> bytes;
  write_frame_header(bytes, {.type = FrameType::kSendPacket, .payload_size = 0x01020304});
  EXPECT_EQ(test::hex(bytes), "0401020304");
}

TEST(AdmitClientFrame, HoldsEachTypeToItsLimits) {
  struct Case {
    std::string_view name;
    FrameType type;
    std::uint32_t size;
    bool is_mesh_peer;
    Result<Admittance> expected;
  };
  using enum FrameType;
  constexpr auto kHandle = Admittance::kHandle;
  constexpr auto kSkip = Admittance::kSkip;
  constexpr auto kTooSmall = fail(ErrorCode::kFrameTooSmall);
  constexpr auto kTooLarge = fail(ErrorCode::kFrameTooLarge);
  constexpr auto kWrongLength = fail(ErrorCode::kFrameLengthInvalid);
  constexpr auto kNotPermitted = fail(ErrorCode::kFrameNotPermitted);
  // The rows of server-behaviour's frame error matrix, with v1.104's bound on unknown frames.
  const Case kCases[] = {
      {"SendPacket without a whole key", kSendPacket, 31, false, kTooSmall},
      {"SendPacket with an empty packet", kSendPacket, 32, false, kHandle},
      {"SendPacket of the largest packet", kSendPacket, 32 + 65536, false, kHandle},
      {"SendPacket one byte larger", kSendPacket, 32 + 65537, false, kTooLarge},
      {"SendPacket of the largest length", kSendPacket, kAnySizeMax, false, kTooLarge},
      {"ForwardPacket from a client", kForwardPacket, 64, false, kNotPermitted},
      {"ForwardPacket too small from a client", kForwardPacket, 63, false, kNotPermitted},
      {"ForwardPacket without two whole keys", kForwardPacket, 63, true, kTooSmall},
      {"ForwardPacket with an empty packet", kForwardPacket, 64, true, kHandle},
      {"ForwardPacket of the largest packet", kForwardPacket, 64 + 65536, true, kHandle},
      {"ForwardPacket one byte larger", kForwardPacket, 64 + 65537, true, kTooLarge},
      {"NotePreferred empty", kNotePreferred, 0, false, kWrongLength},
      {"NotePreferred", kNotePreferred, 1, false, kHandle},
      {"NotePreferred of two bytes", kNotePreferred, 2, false, kWrongLength},
      {"WatchConns from a client", kWatchConns, 0, false, kNotPermitted},
      {"WatchConns with a payload from a client", kWatchConns, 1, false, kWrongLength},
      {"WatchConns", kWatchConns, 0, true, kHandle},
      {"WatchConns with a payload", kWatchConns, 1, true, kWrongLength},
      {"ClosePeer from a client", kClosePeer, 32, false, kNotPermitted},
      {"ClosePeer short from a client", kClosePeer, 31, false, kWrongLength},
      {"ClosePeer", kClosePeer, 32, true, kHandle},
      {"ClosePeer one byte short", kClosePeer, 31, true, kWrongLength},
      {"ClosePeer one byte long", kClosePeer, 33, true, kWrongLength},
      {"Ping of seven bytes", kPing, 7, false, kTooSmall},
      {"Ping", kPing, 8, false, kHandle},
      {"Ping of the largest size", kPing, 1000, false, kHandle},
      {"Ping one byte larger", kPing, 1001, false, kTooLarge},
      {"Pong", kPong, 8, false, kSkip},
      {"ClientInfo again", kClientInfo, 72, false, kSkip},
      {"ServerKey", kServerKey, 40, false, kSkip},
      {"RecvPacket", kRecvPacket, 40, false, kSkip},
      {"PeerPresent", kPeerPresent, 51, true, kSkip},
      {"Health", kHealth, 0, false, kSkip},
      {"unknown, empty", FrameType{0xee}, 0, false, kSkip},
      {"unknown, of the largest size", FrameType{0xee}, 65568, false, kSkip},
      {"unknown, one byte larger", FrameType{0xee}, 65569, false, kTooLarge},
      {"unknown, of the largest length", FrameType{0xff}, kAnySizeMax, true, kTooLarge},
      {"type zero", FrameType{0}, 5, false, kSkip},
  };
  for (const auto& [name, type, size, is_mesh_peer, expected] : kCases) {
    SCOPED_TRACE(name);
    EXPECT_EQ(admit_client_frame({.type = type, .payload_size = size}, is_mesh_peer), expected);
  }
}

TEST(ReadSendPacket, SplitsKeyAndPacketInPlace) {
  const auto payload = payload_of(kSendHelloHex);
  const auto frame = read_send_packet(payload);
  ASSERT_TRUE(frame.has_value());
  EXPECT_EQ(frame->destination, test::client_b_public());
  EXPECT_EQ(as_text(frame->packet), "hello");
  EXPECT_EQ(frame->packet.data(), payload.data() + kKeySize);
}

TEST(ReadFrames, RefuseEveryPayloadWithoutAWholeKey) {
  const auto payload = payload_of(kPeerGoneDisconnectedHex);
  for (std::size_t size = 0; size < kKeySize; ++size) {
    const auto truncated = std::span(payload).first(size);
    EXPECT_EQ(read_send_packet(truncated).error().code, ErrorCode::kFrameTooSmall);
    EXPECT_EQ(read_recv_packet(truncated).error().code, ErrorCode::kFrameTooSmall);
    EXPECT_EQ(read_peer_gone(truncated).error().code, ErrorCode::kFrameTooSmall);
  }
  const auto key_alone = std::span(payload).first(kKeySize);
  EXPECT_TRUE(read_send_packet(key_alone)->packet.empty());
  EXPECT_TRUE(read_recv_packet(key_alone)->packet.empty());
}

TEST(RecvPacket, IsTheGoldenFrameAndReadsBack) {
  std::array<std::uint8_t, kRecvPacketHeadSize> head;
  write_recv_packet_head(head, test::client_a_public(), /*packet_size=*/5);
  const auto golden = test::unhex(kRecvHelloHex);
  EXPECT_EQ(test::hex(head), test::hex(std::span(golden).first(kRecvPacketHeadSize)));

  const auto frame = read_recv_packet(std::span(golden).subspan(kFrameHeaderSize));
  ASSERT_TRUE(frame.has_value());
  EXPECT_EQ(frame->source, test::client_a_public());
  EXPECT_EQ(as_text(frame->packet), "hello");
}

TEST(SendPacket, IsTheGoldenFrame) {
  std::array<std::uint8_t, kRecvPacketHeadSize> head;
  write_send_packet_head(head, test::client_b_public(), /*packet_size=*/5);
  const auto golden = test::unhex(kSendHelloHex);
  EXPECT_EQ(test::hex(head), test::hex(std::span(golden).first(kRecvPacketHeadSize)));
}

TEST(ServerKey, IsTheGoldenFrameAndReadsBack) {
  const auto frame = encode_server_key(test::relay_public());
  EXPECT_EQ(test::hex(frame), test::hex(test::unhex(kServerKeyHex)));
  EXPECT_EQ(read_server_key(std::span(frame).subspan(kFrameHeaderSize)), test::relay_public());
}

TEST(ServerKey, IsReadBetween40And1024Bytes) {
  auto payload = payload_of(kServerKeyHex);
  for (std::size_t size = 0; size < payload.size(); ++size) {
    EXPECT_EQ(read_server_key(std::span(payload).first(size)).error().code,
              ErrorCode::kServerKeyInvalid);
  }
  payload.resize(1024);  // Bytes of later protocol versions.
  EXPECT_EQ(read_server_key(payload), test::relay_public());
  payload.resize(1025);
  EXPECT_FALSE(read_server_key(payload).has_value());
}

TEST(ServerKey, NeedsEveryByteOfTheMagic) {
  for (std::size_t i = 0; i < kMagic.size(); ++i) {
    auto payload = payload_of(kServerKeyHex);
    payload[i] ^= 0x20;
    EXPECT_FALSE(read_server_key(payload).has_value()) << i;
  }
}

TEST(ForwardPacket, IsTheGoldenFrameAndReadsBack) {
  const auto payload = payload_of(kForwardHelloHex);
  const auto forward = read_forward_packet(payload);
  ASSERT_TRUE(forward.has_value());
  EXPECT_EQ(test::hex(forward->source.bytes()),
            "0faa684ed28867b97f4a6a2dee5df8ce974e76b7018e3f22a1c4cf2678570f20");
  EXPECT_EQ(test::hex(forward->destination.bytes()),
            "7b0d47d93427f8311160781c7c733fd89f88970aef490d8aa0ee19a4cb8a1b14");
  EXPECT_EQ(as_text(forward->packet), "hello");
  EXPECT_EQ(forward->packet.data(), payload.data() + 2 * kKeySize) << "in place";

  std::array<std::uint8_t, kForwardPacketHeadSize> head;
  write_forward_packet_head(head, forward->source, forward->destination, forward->packet.size());
  EXPECT_EQ(test::hex(head) + test::hex(forward->packet), test::hex(test::unhex(kForwardHelloHex)));
}

TEST(ForwardPacket, NeedsTwoWholeKeys) {
  const std::vector<std::uint8_t> payload(2 * kKeySize, 7);
  for (std::size_t size = 0; size < payload.size(); ++size)
    EXPECT_FALSE(read_forward_packet(std::span(payload).first(size)).has_value()) << size;
  const auto empty = read_forward_packet(payload);
  ASSERT_TRUE(empty.has_value());
  EXPECT_TRUE(empty->packet.empty());
}

TEST(PeerPresent, IsTheGoldenFrameAndReadsBack) {
  for (const std::string_view golden : {kPeerPresentHex, kPeerPresentMeshHex}) {
    const auto payload = payload_of(golden);
    const auto present = read_peer_present(payload);
    ASSERT_TRUE(present.has_value());
    std::array<std::uint8_t, kPeerPresentFrameMax> frame;
    const std::size_t size = write_peer_present(frame, *present);
    EXPECT_EQ(test::hex(std::span(frame).first(size)), test::hex(test::unhex(golden)));
  }
  const auto payload = payload_of(kPeerPresentMeshHex);
  const auto present = read_peer_present(payload);
  EXPECT_EQ(present->port, 51000);
  EXPECT_EQ(present->flags, static_cast<std::uint8_t>(PeerFlag::kMeshPeer));
  EXPECT_EQ(present->app_name, "test");
  EXPECT_EQ(present->address[0], 0x20);
}

TEST(PeerPresent, OfOlderRelaysEndsEarlierAndThatOfNewerOnesLater) {
  auto payload = payload_of(kPeerPresentMeshHex);
  struct Case {
    std::size_t size;
    std::uint16_t port;
    std::uint8_t flags;
    std::string_view app_name;
  };
  constexpr Case kCases[] = {
      {32, 0, 0, ""},     {33, 0, 0, ""},         {49, 0, 0, ""},
      {50, 51000, 0, ""}, {51, 51000, 2, ""},     {52, 51000, 2, ""},
      {55, 51000, 2, ""}, {56, 51000, 2, "test"}, {57, 51000, 2, "test"},
  };
  payload.push_back(0xee);
  for (const auto& [size, port, flags, app_name] : kCases) {
    SCOPED_TRACE(size);
    const auto present = read_peer_present(std::span(payload).first(size));
    ASSERT_TRUE(present.has_value());
    EXPECT_EQ(test::hex(present->peer.bytes()).substr(0, 8), "ff2ee456");
    EXPECT_EQ(present->port, port);
    EXPECT_EQ(present->flags, flags);
    EXPECT_EQ(present->app_name, app_name);
  }
  EXPECT_FALSE(read_peer_present(std::span(payload).first(31)).has_value());
}

TEST(PeerPresent, CutsAnAppNameThatIsTooLong) {
  const std::string name(kAppNameSizeMax + 1, 'x');
  std::array<std::uint8_t, kPeerPresentFrameMax> frame;
  EXPECT_EQ(write_peer_present(frame, {.app_name = name}), kPeerPresentFrameMax);
  EXPECT_EQ(write_peer_present(frame, {.app_name = std::string_view(name).substr(1)}),
            kPeerPresentFrameMax);
  EXPECT_EQ(write_peer_present(frame, {}), kPeerPresentFrameMax - kAppNameSizeMax);
}

TEST(PeerGone, IsTheGoldenFrameAndReadsBack) {
  struct Case {
    std::string_view name;
    NodePublic peer;
    PeerGoneReason reason;
    std::string_view frame_hex;
  };
  const Case kCases[] = {
      {"disconnected", test::client_a_public(), PeerGoneReason::kDisconnected,
       kPeerGoneDisconnectedHex},
      {"not here", test::client_b_public(), PeerGoneReason::kNotHere, kPeerGoneNotHereHex},
  };
  for (const auto& [name, peer, reason, frame_hex] : kCases) {
    SCOPED_TRACE(name);
    const auto frame = encode_peer_gone(peer, reason);
    EXPECT_EQ(test::hex(frame), test::hex(test::unhex(frame_hex)));
    const auto read = read_peer_gone(std::span(frame).subspan(kFrameHeaderSize));
    ASSERT_TRUE(read.has_value());
    EXPECT_EQ(read->peer, peer);
    EXPECT_EQ(read->reason, reason);
  }
}

TEST(PeerGone, MeansDisconnectedWithoutAReason) {
  // Relays before v1.40 sent the key alone; later ones may send more than the reason.
  auto payload = payload_of(kPeerGoneNotHereHex);
  EXPECT_EQ(read_peer_gone(std::span(payload).first(kKeySize))->reason,
            PeerGoneReason::kDisconnected);
  payload.push_back(0x55);
  EXPECT_EQ(read_peer_gone(payload)->reason, PeerGoneReason::kNotHere);
}

TEST(SmallFrames, AreTheGoldenBytes) {
  const PingData data = {1, 2, 3, 4, 5, 6, 7, 0x2a};
  EXPECT_EQ(test::hex(encode_ping(data)), "1200000008010203040506072a");
  EXPECT_EQ(test::hex(encode_pong(data)), "1300000008010203040506072a");
  EXPECT_EQ(test::hex(kKeepAliveFrame), "0600000000");
  EXPECT_EQ(test::hex(encode_note_preferred(true)), "070000000101");
  EXPECT_EQ(test::hex(encode_note_preferred(false)), "070000000100");
  EXPECT_EQ(test::hex(encode_health("dup")), "1400000003647570");
  EXPECT_EQ(test::hex(encode_health("")), "1400000000");
  EXPECT_EQ(test::hex(encode_restarting(1500, 5000)), "1500000008000005dc00001388");
}

TEST(Health, IsCutToWhatClientsReadWithoutSplittingACharacter) {
  constexpr std::size_t kMax = 1 << 20;
  const auto size_of = [](std::string_view problem) {
    const auto frame = encode_health(problem);
    const auto header = read_frame_header(std::span(frame).first<kFrameHeaderSize>());
    EXPECT_EQ(header.payload_size, frame.size() - kFrameHeaderSize);
    return header.payload_size;
  };
  EXPECT_EQ(size_of(std::string(kMax, 'x')), kMax);
  EXPECT_EQ(size_of(std::string(kMax + 1, 'x')), kMax);
  // The last character has three bytes, of which one would fit.
  EXPECT_EQ(size_of(std::string(kMax - 1, 'x') + "\u20ac"), kMax - 1);
  EXPECT_EQ(size_of(std::string(kMax + 10, '\x80')), 0U);
}

TEST(IsDisco, LooksAtSizeAndMagicAlone) {
  const auto payload = payload_of(kDiscoFrameHex);
  const auto golden = read_send_packet(payload)->packet;
  ASSERT_EQ(golden.size(), 62U);
  EXPECT_TRUE(is_disco(golden));
  EXPECT_FALSE(is_disco(golden.first(61)));
  EXPECT_FALSE(is_disco({}));

  std::vector<std::uint8_t> packet(golden.begin(), golden.end());
  packet.resize(65536);
  EXPECT_TRUE(is_disco(packet));
  for (std::size_t i = 0; i < 6; ++i) {
    auto other = packet;
    other[i] ^= 1;
    EXPECT_FALSE(is_disco(other)) << i;
  }
}

}  // namespace
}  // namespace detour::derp
