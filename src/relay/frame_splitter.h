#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "base/clock.h"
#include "base/result.h"
#include "derp/frame.h"
#include "relay/receive_limit.h"

namespace detour::relay {

/// A whole frame where it lies in the input.
struct Frame {
  derp::FrameType type;
  std::span<const std::uint8_t> payload;
};

/// Splits a logged-in client's byte stream into frames, in place.
///
/// Keeps no bytes: what next() leaves of the input has to be offered again with more behind it. The
/// only state is how much of an unknown frame is still to be skipped, and what the receive rate
/// needs.
class FrameSplitter {
 public:
  explicit FrameSplitter(bool is_mesh_peer) : is_mesh_peer_(is_mesh_peer) {}

  /// The next whole frame that the relay acts on, cut from the front of `input`; skipped frames are
  /// cut away too. nullopt when more bytes are needed.
  ///
  /// With a receive rate, `now` decides: nullopt too when the client has to wait first, and
  /// waits_until() then says for how long.
  ///
  /// Fails with the frame errors of derp::admit_client_frame as soon as a header breaks a limit:
  /// the connection has to be closed.
  [[nodiscard]] Result<std::optional<Frame>> next(std::span<const std::uint8_t>& input,
                                                  TimePoint now = {});

  /// Limits how fast frames come, or lifts the limit when `rate` has none. Begins with a full
  /// bucket, and forgets what was waited for. Allocates: at login and when the setting changes.
  void set_receive_rate(ReceiveRate rate);

  /// When next() gave nothing because of the receive rate: from when on to call it again.
  [[nodiscard]] std::optional<TimePoint> waits_until() const { return waits_until_; }

  /// How many bytes the frame at the front of the remaining input needs in all; at most
  /// kFrameSizeMax. Lets the caller size the buffer that carries a partial frame over.
  static constexpr std::size_t kFrameSizeMax =
      derp::kFrameHeaderSize + 2 * crypto::kKeySize + derp::kPacketSizeMax;

  /// Number of frame headers read so far, of any type: a sign that the client spoke.
  [[nodiscard]] std::uint64_t headers_read() const { return headers_read_; }

 private:
  bool is_mesh_peer_;
  std::uint32_t skip_remaining_ = 0;
  std::uint64_t headers_read_ = 0;
  /// The header at the front of a partial frame was admitted and counted before.
  bool header_seen_ = false;
  /// The frame at the front has paid; it is handled once waits_until_ has come.
  bool header_paid_ = false;
  std::optional<TimePoint> waits_until_;
  std::unique_ptr<ReceiveLimit> limit_;  ///< Null without a receive rate.
};

}  // namespace detour::relay
