#include "server/gather_pause.h"

#include <sys/prctl.h>

#include <algorithm>
#include <bit>
#include <ctime>

namespace detour::server {

Duration GatherPause::wanted(std::uint64_t packets_total, TimePoint now) {
  if (pause_max_ == Duration::zero()) return Duration::zero();
  const std::uint64_t turn_packets = packets_total - last_packets_;
  last_packets_ = packets_total;
  if (now - window_start_ >= kWindow) end_window(packets_total, now);
  return turn_packets != 0 && turn_packets <= kSmallTurnPackets ? pause_ : Duration::zero();
}

void GatherPause::end_window(std::uint64_t packets_total, TimePoint now) {
  using Seconds = std::chrono::duration<double>;
  const Seconds elapsed = now - window_start_;
  const auto packets = static_cast<double>(packets_total - window_packets_);
  constexpr auto kHot = static_cast<double>(kHotPacketsPerSecond);
  const double rate = packets / elapsed.count();
  // Up slowly, down at once: when it is quiet, the next packet is not to wait.
  rate_ = rate < kHot / 2 ? rate : rate_ + (rate - rate_) * (elapsed / (elapsed + kMemory));
  pause_ = Duration::zero();
  if (rate_ > kHot) {
    const auto senders = static_cast<double>(std::max(std::popcount(senders_), 1));
    const Seconds wanted = elapsed * (kPacketsPerSender * senders / packets);
    // Bounded before the conversion: an idle hour makes `elapsed` long.
    pause_ = std::chrono::duration_cast<Duration>(
        std::clamp(wanted, Seconds(std::min(kPauseMin, pause_max_)), Seconds(pause_max_)));
  }
  window_start_ = now;
  window_packets_ = packets_total;
  senders_ = 0;
}

void GatherPause::prepare_thread() const {
  constexpr unsigned long kSlackNanoseconds = 1000;
  if (pause_max_ != Duration::zero()) ::prctl(PR_SET_TIMERSLACK, kSlackNanoseconds);
}

void GatherPause::sleep(Duration pause) {
  const auto nanoseconds = std::chrono::duration_cast<std::chrono::nanoseconds>(pause).count();
  const timespec time{.tv_sec = 0, .tv_nsec = nanoseconds};
  ::clock_nanosleep(CLOCK_MONOTONIC, 0, &time, nullptr);
}

}  // namespace detour::server
