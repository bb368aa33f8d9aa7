#include "derp/frame.h"

namespace detour::derp {
namespace {

using crypto::kKeySize;
using crypto::NodePublic;

/// The longest ServerKey payload that clients read.
constexpr std::size_t kServerKeyPayloadMax = 1024;
constexpr std::size_t kServerKeyPayloadMin = kMagic.size() + kKeySize;
/// The longest Health payload that clients read.
constexpr std::size_t kHealthSizeMax = std::size_t{1} << 20;

/// Handles a payload of `size_min` to `size_max` bytes.
[[nodiscard]] Result<Admittance> admit_between(std::uint32_t size, std::size_t size_min,
                                               std::size_t size_max) {
  if (size < size_min) return fail(ErrorCode::kFrameTooSmall);
  if (size > size_max) return fail(ErrorCode::kFrameTooLarge);
  return Admittance::kHandle;
}

/// Handles a payload of exactly `size_wanted` bytes.
[[nodiscard]] Result<Admittance> admit_exactly(std::uint32_t size, std::size_t size_wanted) {
  if (size != size_wanted) return fail(ErrorCode::kFrameLengthInvalid);
  return Admittance::kHandle;
}

/// A frame of `kFrameSize` bytes in all: its header is written, its payload is zero.
template <std::size_t kFrameSize>
[[nodiscard]] std::array<std::uint8_t, kFrameSize> start_frame(FrameType type) {
  std::array<std::uint8_t, kFrameSize> frame{};
  write_frame_header(
      std::span(frame).template first<kFrameHeaderSize>(),
      {.type = type, .payload_size = static_cast<std::uint32_t>(kFrameSize - kFrameHeaderSize)});
  return frame;
}

[[nodiscard]] PongFrame encode_ping_or_pong(FrameType type, const PingData& data) {
  auto frame = start_frame<kPongFrameSize>(type);
  std::copy(data.begin(), data.end(), frame.begin() + kFrameHeaderSize);
  return frame;
}

/// The longest prefix of `text` of at most `size_max` bytes that does not end inside a UTF-8
/// sequence.
[[nodiscard]] std::string_view cut_utf8(std::string_view text, std::size_t size_max) {
  if (text.size() <= size_max) return text;

  const auto continues = [](char c) { return (static_cast<std::uint8_t>(c) & 0xc0) == 0x80; };
  std::size_t end = size_max;
  while (end > 0 && continues(text[end])) --end;
  return text.substr(0, end);
}

}  // namespace

Result<Admittance> admit_client_frame(FrameHeader header, bool is_mesh_peer) {
  const std::uint32_t size = header.payload_size;
  switch (header.type) {
    case FrameType::kSendPacket:
      return admit_between(size, kKeySize, kKeySize + kPacketSizeMax);
    case FrameType::kForwardPacket:
      if (!is_mesh_peer) return fail(ErrorCode::kFrameNotPermitted);
      return admit_between(size, 2 * kKeySize, 2 * kKeySize + kPacketSizeMax);
    case FrameType::kNotePreferred:
      return admit_exactly(size, 1);
    case FrameType::kWatchConns: {
      // As in the reference, the size counts before the permission, here and for ClosePeer.
      const auto admitted = admit_exactly(size, 0);
      if (admitted && !is_mesh_peer) return fail(ErrorCode::kFrameNotPermitted);
      return admitted;
    }
    case FrameType::kClosePeer: {
      const auto admitted = admit_exactly(size, kKeySize);
      if (admitted && !is_mesh_peer) return fail(ErrorCode::kFrameNotPermitted);
      return admitted;
    }
    case FrameType::kPing:
      return admit_between(size, kPingSize, kPingPayloadMax);
    default:
      // Types of the other direction, ClientInfo after the login, and all that we do not know.
      if (size > kUnknownFrameMax) return fail(ErrorCode::kFrameTooLarge);
      return Admittance::kSkip;
  }
}

Result<SendPacket> read_send_packet(std::span<const std::uint8_t> payload) {
  if (payload.size() < kKeySize) return fail(ErrorCode::kFrameTooSmall);
  return SendPacket{.destination = NodePublic::from_bytes(payload.first<kKeySize>()),
                    .packet = payload.subspan(kKeySize)};
}

Result<RecvPacket> read_recv_packet(std::span<const std::uint8_t> payload) {
  if (payload.size() < kKeySize) return fail(ErrorCode::kFrameTooSmall);
  return RecvPacket{.source = NodePublic::from_bytes(payload.first<kKeySize>()),
                    .packet = payload.subspan(kKeySize)};
}

Result<ForwardPacket> read_forward_packet(std::span<const std::uint8_t> payload) {
  if (payload.size() < 2 * kKeySize) return fail(ErrorCode::kFrameTooSmall);
  return ForwardPacket{.source = NodePublic::from_bytes(payload.first<kKeySize>()),
                       .destination = NodePublic::from_bytes(payload.subspan<kKeySize, kKeySize>()),
                       .packet = payload.subspan(2 * kKeySize)};
}

Result<PeerPresent> read_peer_present(std::span<const std::uint8_t> payload) {
  if (payload.size() < kKeySize) return fail(ErrorCode::kFrameTooSmall);
  PeerPresent present{.peer = NodePublic::from_bytes(payload.first<kKeySize>())};
  payload = payload.subspan(kKeySize);
  if (payload.size() < kIpSize + 2) return present;
  std::copy_n(payload.begin(), kIpSize, present.address.begin());
  present.port = read_be16(payload.subspan<kIpSize, 2>());
  payload = payload.subspan(kIpSize + 2);
  if (payload.empty()) return present;
  present.flags = payload[0];
  if (payload.size() < 2 || payload.size() - 2 < payload[1]) return present;
  present.app_name = as_text(payload.subspan(2, payload[1]));
  return present;
}

std::size_t write_peer_present(std::span<std::uint8_t, kPeerPresentFrameMax> out,
                               const PeerPresent& present) {
  const auto name = as_bytes(present.app_name.substr(0, kAppNameSizeMax));
  const std::size_t size = kPeerPresentFrameMax - kAppNameSizeMax + name.size();
  write_frame_header(out.first<kFrameHeaderSize>(),
                     {.type = FrameType::kPeerPresent,
                      .payload_size = static_cast<std::uint32_t>(size - kFrameHeaderSize)});
  const auto key = present.peer.bytes();
  auto at = std::copy(key.begin(), key.end(), out.begin() + kFrameHeaderSize);
  at = std::copy(present.address.begin(), present.address.end(), at);
  *at++ = static_cast<std::uint8_t>(present.port >> 8U);
  *at++ = static_cast<std::uint8_t>(present.port & 0xffU);
  *at++ = present.flags;
  *at++ = static_cast<std::uint8_t>(name.size());
  std::copy(name.begin(), name.end(), at);
  return size;
}

Result<PeerGone> read_peer_gone(std::span<const std::uint8_t> payload) {
  if (payload.size() < kKeySize) return fail(ErrorCode::kFrameTooSmall);
  // Relays before v1.40 sent no reason.
  const auto reason =
      payload.size() > kKeySize ? PeerGoneReason{payload[kKeySize]} : PeerGoneReason::kDisconnected;
  return PeerGone{.peer = NodePublic::from_bytes(payload.first<kKeySize>()), .reason = reason};
}

ServerKeyFrame encode_server_key(const NodePublic& relay_key) {
  auto frame = start_frame<kServerKeyFrameSize>(FrameType::kServerKey);
  const auto key_begin = std::copy(kMagic.begin(), kMagic.end(), frame.begin() + kFrameHeaderSize);
  std::copy(relay_key.bytes().begin(), relay_key.bytes().end(), key_begin);
  return frame;
}

Result<NodePublic> read_server_key(std::span<const std::uint8_t> payload) {
  const bool well_formed = payload.size() >= kServerKeyPayloadMin &&
                           payload.size() <= kServerKeyPayloadMax &&
                           std::equal(kMagic.begin(), kMagic.end(), payload.begin());
  if (!well_formed) return fail(ErrorCode::kServerKeyInvalid);
  return NodePublic::from_bytes(payload.subspan<kMagic.size(), kKeySize>());
}

PeerGoneFrame encode_peer_gone(const NodePublic& peer, PeerGoneReason reason) {
  auto frame = start_frame<kPeerGoneFrameSize>(FrameType::kPeerGone);
  std::copy(peer.bytes().begin(), peer.bytes().end(), frame.begin() + kFrameHeaderSize);
  frame.back() = static_cast<std::uint8_t>(reason);
  return frame;
}

PongFrame encode_pong(const PingData& data) {
  return encode_ping_or_pong(FrameType::kPong, data);
}

PongFrame encode_ping(const PingData& data) {
  return encode_ping_or_pong(FrameType::kPing, data);
}

std::array<std::uint8_t, kFrameHeaderSize + 1> encode_note_preferred(bool preferred) {
  auto frame = start_frame<kFrameHeaderSize + 1>(FrameType::kNotePreferred);
  frame.back() = preferred ? 1 : 0;
  return frame;
}

std::vector<std::uint8_t> encode_health(std::string_view problem) {
  problem = cut_utf8(problem, kHealthSizeMax);
  std::vector<std::uint8_t> frame(kFrameHeaderSize + problem.size());
  write_frame_header(
      std::span(frame).first<kFrameHeaderSize>(),
      {.type = FrameType::kHealth, .payload_size = static_cast<std::uint32_t>(problem.size())});
  std::copy(problem.begin(), problem.end(), frame.begin() + kFrameHeaderSize);
  return frame;
}

RestartingFrame encode_restarting(std::uint32_t reconnect_in_ms, std::uint32_t try_for_ms) {
  auto frame = start_frame<kFrameHeaderSize + 8>(FrameType::kRestarting);
  write_be32(std::span(frame).subspan<kFrameHeaderSize, 4>(), reconnect_in_ms);
  write_be32(std::span(frame).subspan<kFrameHeaderSize + 4, 4>(), try_for_ms);
  return frame;
}

}  // namespace detour::derp
