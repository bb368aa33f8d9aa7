#include "server/gather_pause.h"

#include <sys/prctl.h>

#include <ctime>

namespace detour::server {

bool GatherPause::wanted(std::uint64_t packets_total, TimePoint now) {
  if (pause_ == Duration::zero()) return false;
  const std::uint64_t turn_packets = packets_total - last_packets_;
  last_packets_ = packets_total;

  const Duration elapsed = now - window_start_;
  if (elapsed >= kWindow) {
    // Rate over the window, without dividing: packets / elapsed > kHotPacketsPerSecond.
    const std::chrono::duration<double> seconds = elapsed;
    hot_ = static_cast<double>(packets_total - window_packets_) >
           static_cast<double>(kHotPacketsPerSecond) * seconds.count();
    window_start_ = now;
    window_packets_ = packets_total;
  }
  return hot_ && turn_packets != 0 && turn_packets <= kSmallTurnPackets;
}

void GatherPause::prepare_thread() const {
  constexpr unsigned long kSlackNanoseconds = 1000;
  if (pause_ != Duration::zero()) ::prctl(PR_SET_TIMERSLACK, kSlackNanoseconds);
}

void GatherPause::sleep() const {
  const auto nanoseconds = std::chrono::duration_cast<std::chrono::nanoseconds>(pause_).count();
  const timespec time{.tv_sec = 0, .tv_nsec = nanoseconds};
  ::clock_nanosleep(CLOCK_MONOTONIC, 0, &time, nullptr);
}

}  // namespace detour::server
