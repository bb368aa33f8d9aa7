#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "base/clock.h"
#include "derp/frame.h"

namespace detour::relay {

/// How fast one client may send to the relay, counting the payloads of its frames.
struct ReceiveRate {
  std::uint64_t bytes_per_second = 0;  ///< 0 = no limit.
  std::uint64_t burst_bytes = 0;       ///< What may come at once after a pause.

  /// The smallest burst that lets the largest relayed frame through.
  static constexpr std::uint64_t kBurstMin = derp::kUnknownFrameMax;

  /// The values that are used for those asked for: nothing without a rate, and no burst too small.
  [[nodiscard]] static ReceiveRate applied(ReceiveRate asked) {
    if (asked.bytes_per_second == 0) return {};
    return {.bytes_per_second = asked.bytes_per_second,
            .burst_bytes = std::max(asked.burst_bytes, kBurstMin)};
  }

  friend bool operator==(const ReceiveRate&, const ReceiveRate&) = default;
};

/// A client's bucket of bytes. Starts full.
///
/// A frame takes its bytes when its header is read, also those that are not there yet; it is
/// handled when they are. Nothing is dropped: whoever reads the client stops until then, and TCP
/// tells the client. Part of the reading side; does not allocate.
class ReceiveLimit {
 public:
  /// Timers come late by up to a tick. What flows in meanwhile must not be lost at the brim, or
  /// high rates with a small burst would never be reached.
  static constexpr Duration kTimerSlack = std::chrono::milliseconds(64);

  /// `rate` is an applied one with a limit.
  explicit ReceiveLimit(ReceiveRate rate)
      : per_second_(static_cast<double>(rate.bytes_per_second)),
        brim_(std::max(static_cast<double>(rate.burst_bytes),
                       per_second_ * std::chrono::duration<double>(kTimerSlack).count())),
        tokens_(static_cast<double>(rate.burst_bytes)) {}

  /// Takes the tokens of a frame and gives the time from which it may be handled: `now` when they
  /// are there. A frame longer than any that is relayed costs as much as the longest of those.
  [[nodiscard]] TimePoint charge(std::uint32_t payload_size, TimePoint now) {
    if (last_ != TimePoint{} && now > last_) {
      const std::chrono::duration<double> passed = now - last_;
      tokens_ = std::max(tokens_, std::min(brim_, tokens_ + passed.count() * per_second_));
    }
    last_ = std::max(now, last_);
    tokens_ -= static_cast<double>(std::min<std::uint64_t>(payload_size, ReceiveRate::kBurstMin));
    if (tokens_ >= 0) return now;
    return now + std::chrono::ceil<Duration>(std::chrono::duration<double>(-tokens_ / per_second_));
  }

 private:
  double per_second_;
  double brim_;
  double tokens_;
  TimePoint last_{};
};

}  // namespace detour::relay
