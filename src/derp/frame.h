#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "crypto/keys.h"

/// DERP frames: bytes in, values out, and back (docs/protocol.md). No I/O, no state, no allocation.
namespace detour::derp {

/// type (1 byte), payload size in bytes without this header (u32, big-endian).
inline constexpr std::size_t kFrameHeaderSize = 5;
/// The largest packet that is relayed, without keys and header.
inline constexpr std::size_t kPacketSizeMax = 64 * 1024;
inline constexpr std::size_t kClientInfoSizeMax = 256 * 1024;
inline constexpr std::size_t kPingSize = 8;
inline constexpr std::size_t kPingPayloadMax = 1000;
/// Unknown frames up to this payload size are skipped, longer ones end the connection (v1.104).
inline constexpr std::size_t kUnknownFrameMax = crypto::kKeySize + kPacketSizeMax;
inline constexpr std::array<std::uint8_t, 8> kMagic = {'D', 'E', 'R', 'P', 0xf0, 0x9f, 0x94, 0x91};
inline constexpr int kProtocolVersion = 2;

enum class FrameType : std::uint8_t {
  kServerKey = 0x01,
  kClientInfo = 0x02,
  kServerInfo = 0x03,
  kSendPacket = 0x04,
  kRecvPacket = 0x05,
  kKeepAlive = 0x06,
  kNotePreferred = 0x07,
  kPeerGone = 0x08,
  kPeerPresent = 0x09,
  kForwardPacket = 0x0a,
  kWatchConns = 0x10,
  kClosePeer = 0x11,
  kPing = 0x12,
  kPong = 0x13,
  kHealth = 0x14,
  kRestarting = 0x15,
};

enum class PeerGoneReason : std::uint8_t {
  kDisconnected = 0x00,
  kNotHere = 0x01,
};

struct FrameHeader {
  FrameType type;
  std::uint32_t payload_size;

  friend bool operator==(const FrameHeader&, const FrameHeader&) = default;
};

/// Reads a frame header. Any type and size is syntactically legal; limits depend on who reads.
[[nodiscard]] inline FrameHeader read_frame_header(
    std::span<const std::uint8_t, kFrameHeaderSize> bytes) {
  return {.type = FrameType{bytes[0]}, .payload_size = read_be32(bytes.subspan<1, 4>())};
}

inline void write_frame_header(std::span<std::uint8_t, kFrameHeaderSize> out, FrameHeader header) {
  out[0] = static_cast<std::uint8_t>(header.type);
  write_be32(out.subspan<1, 4>(), header.payload_size);
}

/// What a logged-in client's frame of this header means for the relay, decided before any of its
/// payload is buffered, so that a peer cannot make us allocate (server-behaviour: frame error
/// matrix).
enum class Admittance : std::uint8_t {
  kHandle,  ///< Read the whole payload, then act on it.
  kSkip,    ///< Discard the payload and go on: unknown or server-direction types.
};

/// Fails with kFrameTooSmall, kFrameTooLarge or kFrameLengthInvalid when the size is outside the
/// limits of its type, and with kFrameNotPermitted for mesh frames from a client that is not a mesh
/// peer.
[[nodiscard]] Result<Admittance> admit_client_frame(FrameHeader header, bool is_mesh_peer);

/// Whether `packet` is a disco message: at least 62 bytes, beginning with `TS` + U+1F4AC.
[[nodiscard]] inline bool is_disco(std::span<const std::uint8_t> packet) {
  constexpr std::array<std::uint8_t, 6> kDiscoMagic = {0x54, 0x53, 0xf0, 0x9f, 0x92, 0xac};
  constexpr std::size_t kDiscoSizeMin = kDiscoMagic.size() + crypto::kKeySize + 24;
  return packet.size() >= kDiscoSizeMin &&
         std::equal(kDiscoMagic.begin(), kDiscoMagic.end(), packet.begin());
}

/// A SendPacket (client to relay): destination key (32 bytes), packet.
struct SendPacket {
  crypto::NodePublic destination;
  std::span<const std::uint8_t> packet;  ///< Points into the frame that was read.
};
/// Fails with kFrameTooSmall below 32 bytes.
[[nodiscard]] Result<SendPacket> read_send_packet(std::span<const std::uint8_t> payload);

/// A RecvPacket (relay to client): source key (32 bytes), packet.
struct RecvPacket {
  crypto::NodePublic source;
  std::span<const std::uint8_t> packet;  ///< Points into the frame that was read.
};
[[nodiscard]] Result<RecvPacket> read_recv_packet(std::span<const std::uint8_t> payload);

/// A ForwardPacket (mesh peer to relay): source key (32 bytes), destination key (32), packet.
struct ForwardPacket {
  crypto::NodePublic source;  ///< As the mesh peer says; not proven by any handshake with us.
  crypto::NodePublic destination;
  std::span<const std::uint8_t> packet;  ///< Points into the frame that was read.
};
/// Fails with kFrameTooSmall below 64 bytes.
[[nodiscard]] Result<ForwardPacket> read_forward_packet(std::span<const std::uint8_t> payload);

/// What a relay says about its clients to mesh peers that watch it.
enum class PeerFlag : std::uint8_t {
  kRegular = 0x01,  ///< Only when no other flag is set.
  kMeshPeer = 0x02,
  kProber = 0x04,
  kNotIdeal = 0x08,
};

inline constexpr std::size_t kIpSize = 16;
inline constexpr std::size_t kAppNameSizeMax = 32;

/// A PeerPresent (relay to mesh peer): key (32 bytes), IP address (16, IPv4 as ::ffff:a.b.c.d),
/// port (2), flags (1), size of the app name (1), app name (0 to 32).
///
/// Relays before v1.104 end it behind the flags, before v1.70 behind the port, before v1.48 behind
/// the key; what is missing is zero here. What follows the app name is ignored.
struct PeerPresent {
  crypto::NodePublic peer{};
  std::array<std::uint8_t, kIpSize> address{};
  std::uint16_t port = 0;
  std::uint8_t flags = 0;  ///< PeerFlag values, or-ed.
  std::string_view app_name{};
};
/// Fails with kFrameTooSmall below 32 bytes. The app name points into `payload`.
[[nodiscard]] Result<PeerPresent> read_peer_present(std::span<const std::uint8_t> payload);

/// A PeerGone: key (32 bytes), reason (1 byte; absent means kDisconnected).
struct PeerGone {
  crypto::NodePublic peer;
  PeerGoneReason reason;
};
[[nodiscard]] Result<PeerGone> read_peer_gone(std::span<const std::uint8_t> payload);

// Whole frames of fixed size, ready to send.
inline constexpr std::size_t kServerKeyFrameSize =
    kFrameHeaderSize + kMagic.size() + crypto::kKeySize;
inline constexpr std::size_t kPeerGoneFrameSize = kFrameHeaderSize + crypto::kKeySize + 1;
inline constexpr std::size_t kPongFrameSize = kFrameHeaderSize + kPingSize;
/// Header and source key in front of a relayed packet.
inline constexpr std::size_t kRecvPacketHeadSize = kFrameHeaderSize + crypto::kKeySize;
/// Header, source key and destination key in front of a packet for a mesh peer's client.
inline constexpr std::size_t kForwardPacketHeadSize = kFrameHeaderSize + 2 * crypto::kKeySize;
inline constexpr std::size_t kPeerPresentFrameMax =
    kFrameHeaderSize + crypto::kKeySize + kIpSize + 2 + 1 + 1 + kAppNameSizeMax;

using ServerKeyFrame = std::array<std::uint8_t, kServerKeyFrameSize>;
using PeerGoneFrame = std::array<std::uint8_t, kPeerGoneFrameSize>;
using PongFrame = std::array<std::uint8_t, kPongFrameSize>;
using RestartingFrame = std::array<std::uint8_t, kFrameHeaderSize + 8>;
using PingData = std::array<std::uint8_t, kPingSize>;

/// magic (8), relay key (32).
[[nodiscard]] ServerKeyFrame encode_server_key(const crypto::NodePublic& relay_key);
/// Relay key out of a ServerKey payload of 40 to 1024 bytes. Fails with kServerKeyInvalid.
[[nodiscard]] Result<crypto::NodePublic> read_server_key(std::span<const std::uint8_t> payload);
[[nodiscard]] PeerGoneFrame encode_peer_gone(const crypto::NodePublic& peer, PeerGoneReason reason);
[[nodiscard]] PongFrame encode_pong(const PingData& data);
[[nodiscard]] PongFrame encode_ping(const PingData& data);
/// One byte: 1 = this relay is in the client's home region.
[[nodiscard]] std::array<std::uint8_t, kFrameHeaderSize + 1> encode_note_preferred(bool preferred);
/// UTF-8 text; empty means healthy again. `problem` is cut to what a client reads (1 MiB).
[[nodiscard]] std::vector<std::uint8_t> encode_health(std::string_view problem);
/// Both in milliseconds: wait before reconnecting, and how long to keep trying.
[[nodiscard]] RestartingFrame encode_restarting(std::uint32_t reconnect_in_ms,
                                                std::uint32_t try_for_ms);
inline constexpr std::array<std::uint8_t, kFrameHeaderSize> kKeepAliveFrame = {0x06, 0, 0, 0, 0};
inline constexpr std::array<std::uint8_t, kFrameHeaderSize> kWatchConnsFrame = {0x10, 0, 0, 0, 0};
/// Writes a whole PeerPresent frame to the front of `out` and gives its size. An app name beyond
/// kAppNameSizeMax is cut.
[[nodiscard]] std::size_t write_peer_present(std::span<std::uint8_t, kPeerPresentFrameMax> out,
                                             const PeerPresent& present);

/// Writes header and source key of a RecvPacket whose packet has `packet_size` bytes.
inline void write_recv_packet_head(std::span<std::uint8_t, kRecvPacketHeadSize> out,
                                   const crypto::NodePublic& source, std::size_t packet_size) {
  write_frame_header(out.first<kFrameHeaderSize>(),
                     {.type = FrameType::kRecvPacket,
                      .payload_size = static_cast<std::uint32_t>(crypto::kKeySize + packet_size)});
  std::copy(source.bytes().begin(), source.bytes().end(), out.begin() + kFrameHeaderSize);
}

/// Writes header and keys of a ForwardPacket whose packet has `packet_size` bytes.
inline void write_forward_packet_head(std::span<std::uint8_t, kForwardPacketHeadSize> out,
                                      const crypto::NodePublic& source,
                                      const crypto::NodePublic& destination,
                                      std::size_t packet_size) {
  write_frame_header(
      out.first<kFrameHeaderSize>(),
      {.type = FrameType::kForwardPacket,
       .payload_size = static_cast<std::uint32_t>(2 * crypto::kKeySize + packet_size)});
  const auto rest =
      std::copy(source.bytes().begin(), source.bytes().end(), out.begin() + kFrameHeaderSize);
  std::copy(destination.bytes().begin(), destination.bytes().end(), rest);
}

/// Writes header and destination key of a SendPacket: the client's side.
inline void write_send_packet_head(std::span<std::uint8_t, kRecvPacketHeadSize> out,
                                   const crypto::NodePublic& destination, std::size_t packet_size) {
  write_frame_header(out.first<kFrameHeaderSize>(),
                     {.type = FrameType::kSendPacket,
                      .payload_size = static_cast<std::uint32_t>(crypto::kKeySize + packet_size)});
  std::copy(destination.bytes().begin(), destination.bytes().end(), out.begin() + kFrameHeaderSize);
}

}  // namespace detour::derp
