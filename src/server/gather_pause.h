#pragma once

#include <cstdint>

#include "base/clock.h"

namespace detour::server {

/// Decides when a busy worker lets packets gather for a moment before it looks again, and for how
/// long.
///
/// Waking up costs about as much as relaying ten packets, however few there are. A worker that
/// relays many packets a second in small turns therefore sleeps a little between turns; each turn
/// then finds more, and each destination gets more in one send. It sleeps about as long as each of
/// the senders takes for a few packets: a single sender that waits for answers is not held up, and
/// many slow ones are worth a longer pause. Below the hot rate it never sleeps, so a relay that is
/// not busy adds no latency (docs/performance.md, The gather pause).
class GatherPause {
 public:
  /// Above this rate a worker counts as hot: below, its core is idle most of the time even if each
  /// packet wakes it.
  static constexpr std::uint64_t kHotPacketsPerSecond = 30'000;
  /// A turn with more packets than this gathers enough by itself.
  static constexpr std::uint64_t kSmallTurnPackets = 64;
  /// What each sender should have sent when the pause is over.
  static constexpr std::uint64_t kPacketsPerSender = 4;
  /// Shorter sleeps cost more than they save.
  static constexpr Duration kPauseMin = std::chrono::microseconds(100);
  /// Over how long packets and senders are counted.
  static constexpr Duration kWindow = std::chrono::milliseconds(5);
  /// How long the rate remembers: a burst on a line that is otherwise not hot makes nobody wait.
  static constexpr Duration kMemory = std::chrono::milliseconds(40);

  /// `pause_max` of zero switches it off.
  explicit GatherPause(Duration pause_max) : pause_max_(pause_max) {}

  /// A client has sent something: `sender` is any number of its own. Beyond some dozens of senders
  /// in a window their count is only a guess.
  void saw(std::uint64_t sender) { senders_ |= std::uint64_t{1} << (sender % 64); }

  /// After each turn: `packets_total` is what this worker has received since its start. How long to
  /// sleep before the next turn, zero for not at all.
  [[nodiscard]] Duration wanted(std::uint64_t packets_total, TimePoint now);

  /// Makes short sleeps of the calling thread precise.
  void prepare_thread() const;
  static void sleep(Duration pause);

 private:
  void end_window(std::uint64_t packets_total, TimePoint now);

  const Duration pause_max_;
  Duration pause_{};  ///< While hot; else zero.
  TimePoint window_start_{};
  std::uint64_t window_packets_ = 0;
  std::uint64_t last_packets_ = 0;
  std::uint64_t senders_ = 0;  ///< A bit for each sender of this window.
  double rate_ = 0;            ///< Packets per second, of late.
};

}  // namespace detour::server
