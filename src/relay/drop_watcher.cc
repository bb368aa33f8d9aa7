#include "relay/drop_watcher.h"

#include "derp/frame.h"

namespace detour::relay {

void report_drop(const DropSite& site, metrics::DropReason reason,
                 std::span<const std::uint8_t> frame) {
  const auto type = derp::FrameType{frame[0]};
  const bool is_forward = type == derp::FrameType::kForwardPacket;
  if (!is_forward && type != derp::FrameType::kRecvPacket) return;
  const auto key_at = [&](std::size_t index) {
    return crypto::NodePublic::from_bytes(
        frame.subspan(derp::kFrameHeaderSize + index * crypto::kKeySize).first<crypto::kKeySize>());
  };
  const auto packet =
      frame.subspan(is_forward ? derp::kForwardPacketHeadSize : derp::kRecvPacketHeadSize);
  site.watcher.on_drop(
      {.reason = reason,
       .kind = derp::is_disco(packet) ? metrics::PacketKind::kDisco : metrics::PacketKind::kOther,
       .source = key_at(0),
       .destination = is_forward ? key_at(1) : site.destination,
       .packet_size = packet.size()});
}

void report_drops(const DropSite& site, metrics::DropReason reason,
                  std::span<const std::uint8_t> frames) {
  while (!frames.empty()) {
    const auto header = derp::read_frame_header(frames.first<derp::kFrameHeaderSize>());
    const std::size_t size = derp::kFrameHeaderSize + header.payload_size;
    report_drop(site, reason, frames.first(size));
    frames = frames.subspan(size);
  }
}

}  // namespace detour::relay
