#pragma once

#include "base/clock.h"
#include "net/timer_wheel.h"

namespace detour::server {

/// A timer that calls a member function of its owner.
template <typename Owner, void (Owner::*OnTimer)(TimePoint)>
class MemberTimer final : public net::Timer {
 public:
  explicit MemberTimer(Owner& owner) : owner_(owner) {}

 private:
  void on_timer(TimePoint now) override { (owner_.*OnTimer)(now); }

  Owner& owner_;
};

}  // namespace detour::server
