#pragma once

#include <cstdint>

#include "base/clock.h"

namespace detour::server {

/// Decides when a busy worker lets packets gather for a moment before it looks again.
///
/// Waking up costs about as much as relaying ten packets, however few there are. A worker that
/// relays many packets a second in small turns therefore sleeps a little between turns; each turn
/// then finds more, and each destination gets more in one send. At a low rate it never sleeps, so a
/// quiet relay adds no latency (docs/performance.md, The gather pause).
class GatherPause {
 public:
  /// Above this rate a worker counts as hot.
  static constexpr std::uint64_t kHotPacketsPerSecond = 20'000;
  /// A turn with more packets than this gathers enough by itself.
  static constexpr std::uint64_t kSmallTurnPackets = 64;
  /// Over how long the rate is taken.
  static constexpr Duration kWindow = std::chrono::milliseconds(5);

  /// `pause` of zero switches it off.
  explicit GatherPause(Duration pause) : pause_(pause) {}

  /// After each turn: `packets_total` is what this worker has received since its start. Whether to
  /// sleep before the next turn.
  [[nodiscard]] bool wanted(std::uint64_t packets_total, TimePoint now);

  /// Makes short sleeps of the calling thread precise.
  void prepare_thread() const;
  void sleep() const;

 private:
  const Duration pause_;
  bool hot_ = false;
  TimePoint window_start_{};
  std::uint64_t window_packets_ = 0;
  std::uint64_t last_packets_ = 0;
};

}  // namespace detour::server
