#include "load/flow.h"

#include <cstring>

namespace detour::load {

Flow::Flow(std::uint32_t id, Connection* sender, Connection* receiver, const Traffic& traffic)
    : id_(id),
      sender_(sender),
      receiver_key_(receiver->public_key()),
      window_(traffic.window),
      sent_at_(traffic.window),
      frame_(derp::kRecvPacketHeadSize + traffic.payload_bytes) {
  derp::write_send_packet_head(std::span(frame_).first<derp::kRecvPacketHeadSize>(), receiver_key_,
                               traffic.payload_bytes);
  // Filler that differs between flows and positions, so that mixed-up bytes are seen.
  for (std::size_t i = derp::kRecvPacketHeadSize; i < frame_.size(); ++i)
    frame_[i] = static_cast<std::uint8_t>(i * 7 + id * 131);
}

std::span<const std::uint8_t> Flow::make_frame() {
  const std::uint64_t now = now_ns();
  const Stamp stamp{.magic = kStampMagic, .flow = id_, .sequence = next_, .sent_ns = now};
  std::memcpy(frame_.data() + derp::kRecvPacketHeadSize, &stamp, sizeof stamp);
  sent_at_[next_ % window_] = now;
  ++next_;
  return frame_;
}

void Flow::arrived(const derp::RecvPacket& packet, const Stamp& stamp, std::uint64_t now,
                   bool counts, Counts* totals) {
  const auto filler = packet.packet.subspan(sizeof stamp);
  const auto* expected_filler = frame_.data() + derp::kRecvPacketHeadSize + sizeof stamp;
  const bool intact = packet.source == sender_->public_key() &&
                      packet.packet.size() + derp::kRecvPacketHeadSize == frame_.size() &&
                      std::memcmp(filler.data(), expected_filler, filler.size()) == 0 &&
                      stamp.sequence < next_;
  if (!intact) {
    ++totals->corrupt;
    return;
  }
  if (stamp.sequence < expected_) {
    ++totals->late;
    return;
  }
  const std::uint64_t lost = stamp.sequence - expected_;
  expected_ = stamp.sequence + 1;
  if (!counts) return;
  totals->lost += lost;
  ++totals->delivered;
  totals->latency.add(now - stamp.sent_ns);
}

void Flow::give_up_before(std::uint64_t deadline_ns, bool counts, Counts* totals) {
  while (expected_ < next_ && sent_at_[expected_ % window_] < deadline_ns) {
    ++expected_;
    if (counts) ++totals->lost;
  }
}

}  // namespace detour::load
