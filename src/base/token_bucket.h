#pragma once

#include <algorithm>
#include <chrono>

#include "base/clock.h"

namespace detour {

/// A bucket that holds up to `burst` tokens and gains `per_second` each second. Starts full.
class TokenBucket {
 public:
  TokenBucket(double per_second, double burst)
      : per_second_(per_second), burst_(burst), tokens_(burst) {}

  /// Takes `amount` tokens if they are there.
  [[nodiscard]] bool take(TimePoint now, double amount = 1.0) {
    if (last_ != TimePoint{} && now > last_) {
      const std::chrono::duration<double> passed = now - last_;
      tokens_ = std::min(burst_, tokens_ + passed.count() * per_second_);
    }
    last_ = std::max(now, last_);
    if (tokens_ < amount) return false;
    tokens_ -= amount;
    return true;
  }

 private:
  double per_second_;
  double burst_;
  double tokens_;
  TimePoint last_{};
};

}  // namespace detour
