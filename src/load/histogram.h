#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace detour::load {

/// Counts durations in nanoseconds with a resolution of about 1.6 %. A value; never allocates.
class Histogram {
 public:
  void add(std::uint64_t nanoseconds);
  void merge(const Histogram& other);

  [[nodiscard]] std::uint64_t count() const { return count_; }
  [[nodiscard]] std::uint64_t max_ns() const { return max_ns_; }
  /// The value that `fraction` (0 to 1) of all entries do not exceed; 0 when there are none.
  [[nodiscard]] std::uint64_t quantile_ns(double fraction) const;

 private:
  static constexpr std::size_t kSubBits = 6;
  static constexpr std::size_t kSubBuckets = 1U << kSubBits;
  /// Up to 2^40 ns, which is 18 minutes.
  static constexpr std::size_t kPowersMax = 40 - kSubBits;
  static constexpr std::size_t kBuckets = (kPowersMax + 1) * kSubBuckets;

  [[nodiscard]] static std::size_t bucket_of(std::uint64_t nanoseconds);
  [[nodiscard]] static std::uint64_t upper_edge(std::size_t bucket);

  std::array<std::uint64_t, kBuckets> counts_{};
  std::uint64_t count_ = 0;
  std::uint64_t max_ns_ = 0;
};

}  // namespace detour::load
