#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "derp/frame.h"

namespace detour::client {

/// The largest frame payload that a client reads; official clients have the same limit.
inline constexpr std::uint32_t kFramePayloadMax = 1024 * 1024;

struct Frame {
  derp::FrameType type;
  std::span<const std::uint8_t> payload;
};

/// Cuts a stream of bytes into whole frames. No I/O.
///
/// A frame that lies whole in the input is given where it lies; only one that is torn is copied.
/// Allocates for torn frames only, and keeps that memory for the next one.
class FrameReader {
 public:
  /// Takes bytes from the front of `*bytes` and gives the next whole frame, or nullopt when all
  /// bytes are used up. The frame is valid until the next call and as long as the input is.
  /// Fails with kFrameTooLarge when a payload is beyond kFramePayloadMax.
  [[nodiscard]] Result<std::optional<Frame>> next(std::span<const std::uint8_t>* bytes);

  /// Bytes kept of a frame that has begun and not ended.
  [[nodiscard]] std::size_t torn_size() const { return gave_torn_ ? 0 : torn_.size(); }

 private:
  [[nodiscard]] Result<std::optional<Frame>> next_torn(std::span<const std::uint8_t>* bytes);

  std::vector<std::uint8_t> torn_;
  bool gave_torn_ = false;  ///< `torn_` was given out whole and is thrown away at the next call.
};

}  // namespace detour::client
