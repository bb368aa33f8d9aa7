#include "client/frame_reader.h"

#include <algorithm>

namespace detour::client {

namespace {

derp::FrameHeader header_of(std::span<const std::uint8_t> bytes) {
  return derp::read_frame_header(bytes.first<derp::kFrameHeaderSize>());
}

/// Moves up to `count` bytes from the front of `*bytes` to the end of `out`.
void take(std::span<const std::uint8_t>* bytes, std::size_t count, std::vector<std::uint8_t>* out) {
  const auto part = bytes->first(std::min(count, bytes->size()));
  out->insert(out->end(), part.begin(), part.end());
  *bytes = bytes->subspan(part.size());
}

}  // namespace

Result<std::optional<Frame>> FrameReader::next(std::span<const std::uint8_t>* bytes) {
  if (gave_torn_) {
    torn_.clear();
    gave_torn_ = false;
  }
  if (!torn_.empty()) return next_torn(bytes);
  if (bytes->empty()) return std::nullopt;

  if (bytes->size() >= derp::kFrameHeaderSize) {
    const auto header = header_of(*bytes);
    if (header.payload_size > kFramePayloadMax) return fail(ErrorCode::kFrameTooLarge);
    const std::size_t size = derp::kFrameHeaderSize + header.payload_size;
    if (bytes->size() >= size) {
      const Frame frame{.type = header.type,
                        .payload = bytes->subspan(derp::kFrameHeaderSize, header.payload_size)};
      *bytes = bytes->subspan(size);
      return frame;
    }
  }
  take(bytes, bytes->size(), &torn_);
  return std::nullopt;
}

Result<std::optional<Frame>> FrameReader::next_torn(std::span<const std::uint8_t>* bytes) {
  if (torn_.size() < derp::kFrameHeaderSize) {
    take(bytes, derp::kFrameHeaderSize - torn_.size(), &torn_);
    if (torn_.size() < derp::kFrameHeaderSize) return std::nullopt;
  }
  const auto header = header_of(torn_);
  if (header.payload_size > kFramePayloadMax) return fail(ErrorCode::kFrameTooLarge);
  const std::size_t size = derp::kFrameHeaderSize + header.payload_size;
  take(bytes, size - torn_.size(), &torn_);
  if (torn_.size() < size) return std::nullopt;

  gave_torn_ = true;
  return Frame{.type = header.type,
               .payload = std::span<const std::uint8_t>(torn_).subspan(derp::kFrameHeaderSize)};
}

}  // namespace detour::client
