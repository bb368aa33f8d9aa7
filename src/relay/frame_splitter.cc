#include "relay/frame_splitter.h"

#include <algorithm>

namespace detour::relay {

void FrameSplitter::set_receive_rate(ReceiveRate rate) {
  limit_ = rate.bytes_per_second == 0 ? nullptr : std::make_unique<ReceiveLimit>(rate);
  // A frame that waits goes through for what it has paid.
  waits_until_.reset();
}

Result<std::optional<Frame>> FrameSplitter::next(std::span<const std::uint8_t>& input,
                                                 TimePoint now) {
  for (;;) {
    if (skip_remaining_ != 0) {
      const std::size_t skipped = std::min<std::size_t>(skip_remaining_, input.size());
      input = input.subspan(skipped);
      skip_remaining_ -= static_cast<std::uint32_t>(skipped);
      if (skip_remaining_ != 0) return std::nullopt;
    }
    if (input.size() < derp::kFrameHeaderSize) return std::nullopt;

    const derp::FrameHeader header = derp::read_frame_header(input.first<derp::kFrameHeaderSize>());
    if (!header_seen_) {
      if (limit_ && !header_paid_) {
        header_paid_ = true;
        const TimePoint ready_at = limit_->charge(header.payload_size, now);
        if (ready_at > now) waits_until_ = ready_at;
      }
      if (waits_until_ && now < *waits_until_) return std::nullopt;
      waits_until_.reset();
      header_paid_ = false;
      ++headers_read_;
      const auto admittance = derp::admit_client_frame(header, is_mesh_peer_);
      if (!admittance) return std::unexpected(admittance.error());
      if (*admittance == derp::Admittance::kSkip) {
        input = input.subspan(derp::kFrameHeaderSize);
        skip_remaining_ = header.payload_size;
        continue;
      }
    }

    if (input.size() - derp::kFrameHeaderSize < header.payload_size) {
      header_seen_ = true;
      return std::nullopt;
    }
    header_seen_ = false;
    const Frame frame{.type = header.type,
                      .payload = input.subspan(derp::kFrameHeaderSize, header.payload_size)};
    input = input.subspan(derp::kFrameHeaderSize + header.payload_size);
    return frame;
  }
}

}  // namespace detour::relay
