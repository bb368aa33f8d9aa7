#include "load/histogram.h"

#include <algorithm>
#include <bit>

namespace detour::load {

void Histogram::add(std::uint64_t nanoseconds) {
  ++counts_[bucket_of(nanoseconds)];
  ++count_;
  max_ns_ = std::max(max_ns_, nanoseconds);
}

void Histogram::merge(const Histogram& other) {
  for (std::size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
  count_ += other.count_;
  max_ns_ = std::max(max_ns_, other.max_ns_);
}

std::uint64_t Histogram::quantile_ns(double fraction) const {
  if (count_ == 0) return 0;
  const auto wanted = static_cast<std::uint64_t>(fraction * static_cast<double>(count_));
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < counts_.size(); ++i) {
    seen += counts_[i];
    if (seen > wanted) return std::min(upper_edge(i), max_ns_);
  }
  return max_ns_;
}

// Below 2^kSubBits each nanosecond has its bucket; above, each power of two has 2^kSubBits of them.
std::size_t Histogram::bucket_of(std::uint64_t nanoseconds) {
  if (nanoseconds < kSubBuckets) return nanoseconds;
  const auto power = static_cast<std::size_t>(std::bit_width(nanoseconds)) - kSubBits - 1;
  if (power >= kPowersMax) return kBuckets - 1;
  const auto sub = static_cast<std::size_t>(nanoseconds >> power) - kSubBuckets;
  return (power + 1) * kSubBuckets + sub;
}

std::uint64_t Histogram::upper_edge(std::size_t bucket) {
  if (bucket < kSubBuckets) return bucket;
  const std::size_t power = bucket / kSubBuckets - 1;
  const std::size_t sub = bucket % kSubBuckets;
  return ((kSubBuckets + sub + 1) << power) - 1;
}

}  // namespace detour::load
