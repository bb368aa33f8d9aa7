#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/clock.h"

namespace detour::net {

class TimerWheel;

/// A deadline inside the object that it concerns. Leaves its wheel when destroyed.
class Timer {
 public:
  virtual ~Timer();
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  [[nodiscard]] bool is_armed() const { return wheel_ != nullptr; }
  [[nodiscard]] TimePoint deadline() const { return deadline_; }

 protected:
  Timer() = default;

 private:
  friend class TimerWheel;

  /// The deadline passed. The timer is disarmed by then and may be armed again.
  virtual void on_timer(TimePoint now) = 0;

  TimerWheel* wheel_ = nullptr;
  Timer* next_ = nullptr;
  Timer* previous_ = nullptr;
  TimePoint deadline_{};
  std::size_t slot_ = 0;
};

/// Deadlines in slots of kTick: arming and disarming cost a few instructions at any number of
/// timers.
///
/// A timer fires up to one tick late, never early. Deadlines beyond the horizon are looked at again
/// when it is reached. One thread; does not allocate.
class TimerWheel {
 public:
  static constexpr Duration kTick = std::chrono::milliseconds(32);

  explicit TimerWheel(TimePoint now) : current_(tick_of(now)) {}

  /// Sets or moves a timer's deadline.
  void arm(Timer& timer, TimePoint deadline);
  void disarm(Timer& timer);

  /// Fires all that is due.
  void advance(TimePoint now);

  /// How long until advance() has something to look at; nullopt when no timer is armed.
  [[nodiscard]] std::optional<Duration> time_to_next(TimePoint now) const;

 private:
  static constexpr std::size_t kSlots = 4096;  // Horizon 131 s: beyond every deadline we use.
  static constexpr std::size_t kWords = kSlots / 64;

  [[nodiscard]] static std::uint64_t tick_of(TimePoint time) {
    return static_cast<std::uint64_t>(time.time_since_epoch() / kTick);
  }
  void link(Timer& timer, std::uint64_t tick);
  void fire_slot(std::size_t slot, TimePoint now);

  std::uint64_t current_;  ///< Last tick that was fired.
  std::array<Timer*, kSlots> slots_{};
  std::array<std::uint64_t, kWords> occupied_{};
};

}  // namespace detour::net
