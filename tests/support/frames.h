#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

#include "crypto/keys.h"
#include "derp/frame.h"

/// Frames and keys for tests of what works on logged-in clients.
namespace detour::test {

using Bytes = std::vector<std::uint8_t>;

[[nodiscard]] inline Bytes to_bytes(std::span<const std::uint8_t> bytes) {
  return {bytes.begin(), bytes.end()};
}

/// A key made of a number: different for each, cheap, and easy to recognize in failures.
[[nodiscard]] inline crypto::NodePublic numbered_key(std::uint32_t number) {
  std::array<std::uint8_t, crypto::kKeySize> bytes{};
  write_be32(std::span(bytes).first<4>(), number);
  bytes.back() = 0x6b;
  return crypto::NodePublic::from_bytes(bytes);
}

/// `size` bytes that depend on `seed`, and are never a disco packet.
[[nodiscard]] inline Bytes plain_packet(std::size_t size, std::uint8_t seed = 1) {
  Bytes packet(size);
  for (std::size_t i = 0; i < size; ++i)
    packet[i] = static_cast<std::uint8_t>((i * 7U + seed) & 0x7fU);
  if (size != 0) packet[0] = 4;  // As WireGuard's data messages begin.
  return packet;
}

/// A packet that counts as disco: magic, key and nonce of `size` bytes in all, at least 62.
[[nodiscard]] inline Bytes disco_packet(std::size_t size = 62, std::uint8_t seed = 1) {
  Bytes packet = plain_packet(size, seed);
  constexpr std::uint8_t kMagic[] = {0x54, 0x53, 0xf0, 0x9f, 0x92, 0xac};
  std::ranges::copy(kMagic, packet.begin());
  return packet;
}

/// A frame of any type and payload, legal or not.
[[nodiscard]] inline Bytes frame(derp::FrameType type, std::span<const std::uint8_t> payload = {}) {
  Bytes bytes(derp::kFrameHeaderSize);
  derp::write_frame_header(
      std::span(bytes).first<derp::kFrameHeaderSize>(),
      {.type = type, .payload_size = static_cast<std::uint32_t>(payload.size())});
  bytes.insert(bytes.end(), payload.begin(), payload.end());
  return bytes;
}
[[nodiscard]] inline Bytes frame(std::uint8_t type, std::span<const std::uint8_t> payload = {}) {
  return frame(derp::FrameType{type}, payload);
}

[[nodiscard]] inline Bytes send_packet_frame(const crypto::NodePublic& destination,
                                             std::span<const std::uint8_t> packet) {
  Bytes payload = to_bytes(destination.bytes());
  payload.insert(payload.end(), packet.begin(), packet.end());
  return frame(derp::FrameType::kSendPacket, payload);
}

[[nodiscard]] inline Bytes recv_packet_frame(const crypto::NodePublic& source,
                                             std::span<const std::uint8_t> packet) {
  Bytes payload = to_bytes(source.bytes());
  payload.insert(payload.end(), packet.begin(), packet.end());
  return frame(derp::FrameType::kRecvPacket, payload);
}

[[nodiscard]] inline Bytes concat(std::initializer_list<Bytes> parts) {
  Bytes all;
  for (const Bytes& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

/// Cuts whole frames apart. What does not fit ends the list with what is left.
[[nodiscard]] inline std::vector<Bytes> split_frames(std::span<const std::uint8_t> stream) {
  std::vector<Bytes> frames;
  while (stream.size() >= derp::kFrameHeaderSize) {
    const auto header = derp::read_frame_header(stream.first<derp::kFrameHeaderSize>());
    const std::size_t size = derp::kFrameHeaderSize + header.payload_size;
    if (size > stream.size()) break;
    frames.push_back(to_bytes(stream.first(size)));
    stream = stream.subspan(size);
  }
  if (!stream.empty()) frames.push_back(to_bytes(stream));
  return frames;
}

}  // namespace detour::test
