// A stream of frames as a logged-in client sends them. Input: 1 byte whether it is a mesh peer,
// then the stream.

#include <algorithm>
#include <array>
#include <span>

#include "base/check.h"
#include "derp/frame.h"
#include "input.h"

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
  if (const auto key = read_server_key(payload)) {
    const auto frame = encode_server_key(*key);
    DETOUR_CHECK(std::ranges::equal(std::span(frame).subspan(kFrameHeaderSize),
                                    payload.first(frame.size() - kFrameHeaderSize)));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Bytes stream(data, size);
  const bool is_mesh_peer = (detour::fuzz::take_byte(stream) & 1) != 0;

  while (stream.size() >= kFrameHeaderSize) {
    const FrameHeader header = read_frame_header(stream.first<kFrameHeaderSize>());
    std::array<std::uint8_t, kFrameHeaderSize> again;
    write_frame_header(again, header);
    DETOUR_CHECK(std::ranges::equal(again, stream.first(kFrameHeaderSize)));

    const auto admitted = admit_client_frame(header, is_mesh_peer);
    if (!admitted) return 0;  // The connection ends here.
    // No frame that is admitted can make the relay wait for more than the largest one.
    DETOUR_CHECK(header.payload_size <= 2 * detour::crypto::kKeySize + kPacketSizeMax);

    stream = stream.subspan(kFrameHeaderSize);
    if (stream.size() < header.payload_size) return 0;  // The rest has not come yet.
    read_as_everything(stream.first(header.payload_size));
    stream = stream.subspan(header.payload_size);
  }
  return 0;
}
