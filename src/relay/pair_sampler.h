#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/clock.h"
#include "crypto/keys.h"

namespace detour::relay {

/// Which pairs of keys talk most, told from a sample of the packets.
///
/// All bytes since the packet that was sampled before count for the pair of the one that is sampled
/// next. How many bytes lie between two samples follows the traffic: a quiet worker sees every
/// packet, a busy one a few thousand of each window. One per worker, whose thread alone uses it;
/// allocates only in the constructor. Rare pairs make way for frequent ones, so counts are from
/// below.
class PairSampler {
 public:
  /// What a report covers is one window to two.
  static constexpr Duration kWindow = std::chrono::seconds(10);
  static constexpr std::size_t kPairsMax = 256;
  /// Samples that a window is meant to have at most.
  static constexpr std::uint64_t kSamplesWanted = 4096;

  PairSampler();

  /// A packet goes from `source` to `destination`.
  void note(const crypto::NodePublic& source, const crypto::NodePublic& destination,
            std::size_t bytes, TimePoint now) {
    ++packets_;
    bytes_ += bytes;
    if (bytes_ >= next_at_) sample(source, destination, now);
  }

  struct Pair {
    crypto::NodePublic source;
    crypto::NodePublic destination;
    std::uint64_t packets = 0;
    std::uint64_t bytes = 0;  ///< Payload.
  };
  struct Report {
    std::vector<Pair> pairs;  ///< In no order, each at most twice.
    Duration covers{};        ///< How long it took them.
  };
  [[nodiscard]] Report report(TimePoint now);

 private:
  static constexpr std::size_t kWays = 4;
  using Set = std::array<Pair, kWays>;  ///< A pair without packets is a free place.
  struct Window {
    std::unique_ptr<std::array<Set, kPairsMax / kWays>> sets;
    TimePoint begin{};
  };

  void sample(const crypto::NodePublic& source, const crypto::NodePublic& destination,
              TimePoint now);
  void turn_over(TimePoint now);
  [[nodiscard]] static Set& set_of(Window& window, const crypto::NodePublic& source,
                                   const crypto::NodePublic& destination);

  // Since the last sample.
  std::uint64_t packets_ = 0;
  std::uint64_t bytes_ = 0;
  std::uint64_t next_at_ = 0;  ///< The packet that makes `bytes_` so many is sampled.
  std::uint64_t interval_ = 0;
  std::uint64_t samples_ = 0;  ///< In this window, since the interval last changed.
  std::uint32_t random_ = 1;
  Window current_;
  Window before_;
};

}  // namespace detour::relay
