#include "net/timer_wheel.h"

#include <algorithm>
#include <bit>

namespace detour::net {

Timer::~Timer() {
  if (wheel_ != nullptr) wheel_->disarm(*this);
}

void TimerWheel::arm(Timer& timer, TimePoint deadline) {
  if (timer.wheel_ != nullptr) disarm(timer);
  timer.deadline_ = deadline;
  // The tick after the deadline's own has wholly passed it.
  const std::uint64_t wanted = tick_of(deadline) + 1;
  link(timer, std::clamp(wanted, current_ + 1, current_ + kSlots - 1));
}

void TimerWheel::link(Timer& timer, std::uint64_t tick) {
  const std::size_t slot = tick % kSlots;
  timer.wheel_ = this;
  timer.slot_ = slot;
  timer.previous_ = nullptr;
  timer.next_ = slots_[slot];
  if (timer.next_ != nullptr) timer.next_->previous_ = &timer;
  slots_[slot] = &timer;
  occupied_[slot / 64] |= std::uint64_t{1} << (slot % 64);
}

void TimerWheel::disarm(Timer& timer) {
  if (timer.wheel_ == nullptr) return;
  if (timer.previous_ != nullptr) {
    timer.previous_->next_ = timer.next_;
  } else {
    slots_[timer.slot_] = timer.next_;
    if (timer.next_ == nullptr)
      occupied_[timer.slot_ / 64] &= ~(std::uint64_t{1} << (timer.slot_ % 64));
  }
  if (timer.next_ != nullptr) timer.next_->previous_ = timer.previous_;
  timer.wheel_ = nullptr;
  timer.next_ = timer.previous_ = nullptr;
}

void TimerWheel::advance(TimePoint now) {
  const std::uint64_t target = tick_of(now);
  // After a very long sleep every slot is looked at once.
  if (target > current_ + kSlots) current_ = target - kSlots;
  while (current_ < target) {
    ++current_;
    fire_slot(current_ % kSlots, now);
  }
}

void TimerWheel::fire_slot(std::size_t slot, TimePoint now) {
  // A handler may arm and disarm anything, also timers of this slot: take one at a time. What is
  // armed meanwhile goes to a later tick, so this ends.
  while (slots_[slot] != nullptr) {
    Timer& timer = *slots_[slot];
    disarm(timer);
    if (timer.deadline_ > now) {
      arm(timer, timer.deadline_);
    } else {
      timer.on_timer(now);
    }
  }
}

std::optional<Duration> TimerWheel::time_to_next(TimePoint now) const {
  const std::size_t first = (current_ + 1) % kSlots;
  for (std::size_t i = 0; i <= kWords; ++i) {
    const std::size_t word = (first / 64 + i) % kWords;
    std::uint64_t bits = occupied_[word];
    if (i == 0) bits &= ~std::uint64_t{0} << (first % 64);
    if (i == kWords) bits &= (std::uint64_t{1} << (first % 64)) - 1;
    if (bits == 0) continue;
    const std::size_t slot = word * 64 + static_cast<std::size_t>(std::countr_zero(bits));
    const std::uint64_t ticks = (slot + kSlots - first) % kSlots + 1;
    const TimePoint due{kTick * static_cast<std::int64_t>(current_ + ticks)};
    return std::max(due - now, Duration::zero());
  }
  return std::nullopt;
}

}  // namespace detour::net
