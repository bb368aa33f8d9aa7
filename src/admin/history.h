#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/clock.h"
#include "metrics/exposition.h"

namespace detour::admin {

/// What a relay had done up to a moment: sums since its start, so that any two give what was done
/// between them.
struct Sample {
  TimePoint at{};
  std::uint64_t clients = 0;  ///< Connections that are logged in, at that moment.
  metrics::PacketTotals received{};
  metrics::PacketTotals sent{};
  std::array<std::uint64_t, metrics::kDropReasonCount> dropped{};  ///< Packets.
  std::uint64_t stun_answers = 0;
  double cpu_seconds = 0;

  [[nodiscard]] static Sample of(const metrics::Snapshot& snapshot, TimePoint at);
  [[nodiscard]] std::uint64_t dropped_in_all() const;
};

/// What happened in each second between two samples, on average.
struct Rates {
  double received_bytes = 0;
  double sent_bytes = 0;
  double received_packets = 0;
  double sent_packets = 0;
  double dropped = 0;
  std::array<double, metrics::kDropReasonCount> dropped_by_reason{};
  double stun_answers = 0;
  double cpu = 0;  ///< Cores that were busy.

  /// All zero when no time lies between them.
  [[nodiscard]] static Rates between(const Sample& before, const Sample& after);
};

/// The last hour of a relay: samples in equal distances, the oldest makes way. 86,520
/// bytes, had at the start. Belongs to one thread.
class History {
 public:
  static constexpr Duration kPeriod = std::chrono::seconds(5);
  /// One more than there are periods in an hour, since each rate needs two.
  static constexpr std::size_t kSamplesMax = 721;

  History() { samples_.reserve(kSamplesMax); }
  void add(const Sample& sample);

  /// Samples that are kept.
  [[nodiscard]] std::size_t size() const { return samples_.size(); }
  /// Samples that ever were; the number of the next one.
  [[nodiscard]] std::uint64_t next() const { return next_; }
  /// The sample of that number, counted from the first one that ever was. It has to be kept:
  /// next() - size() <= number < next().
  [[nodiscard]] const Sample& at(std::uint64_t number) const;
  /// The newest one that is at least `age` older than `now`, or else the oldest one. Null without
  /// any.
  [[nodiscard]] const Sample* before(TimePoint now, Duration age) const;

 private:
  std::vector<Sample> samples_;  ///< Sample i is at i % kSamplesMax.
  std::uint64_t next_ = 0;
};

static_assert(sizeof(Sample) * History::kSamplesMax == 86'520);

}  // namespace detour::admin
