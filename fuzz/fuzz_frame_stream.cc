// A stream of frames as a logged-in client sends them, whole and in pieces. Input: 1 byte whether
// it is a mesh peer, 1 byte the size of the pieces, then the stream.

#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/check.h"
#include "derp/frame.h"
#include "input.h"
#include "relay/frame_splitter.h"

namespace {

using namespace detour::derp;
using Bytes = std::span<const std::uint8_t>;

/// Reads a payload as each of the messages with a reader; what is accepted must encode to the same
/// bytes again.
void read_as_everything(Bytes payload) {
  if (const auto send = read_send_packet(payload)) {
    std::array<std::uint8_t, kRecvPacketHeadSize> head;
    write_send_packet_head(head, send->destination, send->packet.size());
    DETOUR_CHECK(std::ranges::equal(std::span(head).subspan(kFrameHeaderSize),
                                    payload.first(detour::crypto::kKeySize)));
    DETOUR_CHECK(send->packet.data() + send->packet.size() == payload.data() + payload.size());
    (void)is_disco(send->packet);
  }
  if (const auto received = read_recv_packet(payload)) {
    DETOUR_CHECK(received->packet.size() + detour::crypto::kKeySize == payload.size());
  }
  if (const auto gone = read_peer_gone(payload)) {
    const auto frame = encode_peer_gone(gone->peer, gone->reason);
    const std::size_t same = std::min(payload.size(), frame.size() - kFrameHeaderSize);
    DETOUR_CHECK(
        std::ranges::equal(std::span(frame).subspan(kFrameHeaderSize, same), payload.first(same)));
  }
  if (const auto forward = read_forward_packet(payload)) {
    std::array<std::uint8_t, kForwardPacketHeadSize> head;
    write_forward_packet_head(head, forward->source, forward->destination, forward->packet.size());
    DETOUR_CHECK(std::ranges::equal(std::span(head).subspan(kFrameHeaderSize),
                                    payload.first(2 * detour::crypto::kKeySize)));
  }
  if (const auto present = read_peer_present(payload)) {
    std::array<std::uint8_t, kPeerPresentFrameMax> frame;
    const auto size = write_peer_present(frame, *present);
    // All parts are there, and the name is no longer than we write it.
    const bool whole = payload.size() >= 52 && payload[51] <= kAppNameSizeMax &&
                       payload.size() >= 52U + payload[51];
    DETOUR_CHECK(!whole || std::ranges::equal(
                               std::span(frame).subspan(kFrameHeaderSize, size - kFrameHeaderSize),
                               payload.first(size - kFrameHeaderSize)));
  }
  if (const auto key = read_server_key(payload)) {
    const auto frame = encode_server_key(*key);
    DETOUR_CHECK(std::ranges::equal(std::span(frame).subspan(kFrameHeaderSize),
                                    payload.first(frame.size() - kFrameHeaderSize)));
  }
}

/// What a stream comes to.
struct Outcome {
  std::vector<std::pair<FrameType, std::vector<std::uint8_t>>> frames;
  std::optional<detour::Error> error;
  std::uint64_t headers_read = 0;

  friend bool operator==(const Outcome&, const Outcome&) = default;
};

/// Hands the stream over in pieces, keeping what the splitter leaves, as a connection does.
Outcome split(Bytes stream, bool is_mesh_peer, std::size_t piece_size) {
  Outcome outcome;
  detour::relay::FrameSplitter splitter(is_mesh_peer);
  std::vector<std::uint8_t> kept;
  while (!stream.empty() && !outcome.error) {
    const auto piece = detour::fuzz::take(stream, piece_size);
    kept.insert(kept.end(), piece.begin(), piece.end());
    Bytes input = kept;
    while (true) {
      const auto next = splitter.next(input);
      if (!next) {
        outcome.error = next.error();
        break;
      }
      if (!*next) break;
      const auto& frame = **next;
      outcome.frames.emplace_back(
          frame.type, std::vector<std::uint8_t>(frame.payload.begin(), frame.payload.end()));
    }
    // What is carried over is part of one frame: this bounds the buffer for it.
    DETOUR_CHECK(outcome.error || input.size() < detour::relay::FrameSplitter::kFrameSizeMax);
    kept.erase(kept.begin(), kept.end() - static_cast<std::ptrdiff_t>(input.size()));
  }
  outcome.headers_read = splitter.headers_read();
  return outcome;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Bytes stream(data, size);
  const bool is_mesh_peer = (detour::fuzz::take_byte(stream) & 1) != 0;
  const std::size_t piece_size = std::size_t{1} + detour::fuzz::take_byte(stream);

  const Outcome whole = split(stream, is_mesh_peer, std::max<std::size_t>(1, stream.size()));
  DETOUR_CHECK(split(stream, is_mesh_peer, piece_size) == whole);
  for (const auto& [type, payload] : whole.frames) {
    const FrameHeader header{.type = type,
                             .payload_size = static_cast<std::uint32_t>(payload.size())};
    const auto admitted = admit_client_frame(header, is_mesh_peer);
    DETOUR_CHECK(admitted && *admitted == Admittance::kHandle);
    read_as_everything(payload);
  }
  return 0;
}
