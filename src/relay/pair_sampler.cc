#include "relay/pair_sampler.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <utility>

namespace detour::relay {
namespace {

/// The smallest step by which the interval grows: about a full packet.
constexpr std::uint64_t kIntervalMin = 1500;

std::uint64_t first_word(const crypto::NodePublic& key) {
  std::uint64_t word;
  std::memcpy(&word, key.bytes().data(), sizeof word);
  return word;
}

}  // namespace

PairSampler::PairSampler() {
  current_.sets = std::make_unique<std::array<Set, kPairsMax / kWays>>();
  before_.sets = std::make_unique<std::array<Set, kPairsMax / kWays>>();
}

PairSampler::Set& PairSampler::set_of(Window& window, const crypto::NodePublic& source,
                                      const crypto::NodePublic& destination) {
  // Keys are random. Who chooses them to collide hides its own pairs alone, and a few others'.
  const std::uint64_t mixed =
      (first_word(source) ^ (first_word(destination) * 3)) * 0x9e3779b97f4a7c15ULL;
  return (*window.sets)[(mixed >> 32U) % window.sets->size()];
}

void PairSampler::sample(const crypto::NodePublic& source, const crypto::NodePublic& destination,
                         TimePoint now) {
  turn_over(now);
  const std::uint64_t packets = std::exchange(packets_, 0);
  const std::uint64_t bytes = std::exchange(bytes_, 0);

  Set& set = set_of(current_, source, destination);
  auto place = std::ranges::find_if(set, [&](const Pair& pair) {
    return pair.packets != 0 && pair.source == source && pair.destination == destination;
  });
  if (place == set.end())
    place = std::ranges::find_if(set, [](const Pair& pair) { return pair.packets == 0; });
  if (place != set.end()) {
    if (place->packets == 0) *place = {.source = source, .destination = destination};
    place->packets += packets;
    place->bytes += bytes;
  } else {
    // All pairs of the set pay, so that a frequent one stays and rare ones make way (Misra, Gries).
    for (Pair& pair : set) {
      pair.packets -= std::min(pair.packets, packets);
      pair.bytes -= std::min(pair.bytes, bytes);
    }
  }

  // A window that brings far more than the last one must not cost more either.
  if (++samples_ > kSamplesWanted) {
    interval_ = std::max(2 * interval_, kIntervalMin);
    samples_ = 0;
  }
  // Between half and one and a half of the interval, so that no rhythm of the packets can hide one.
  random_ = random_ * 1664525U + 1013904223U;
  next_at_ = interval_ == 0 ? 0 : interval_ / 2 + random_ % interval_;
}

void PairSampler::turn_over(TimePoint now) {
  const Duration age = now - current_.begin;
  if (age < kWindow) return;
  std::swap(current_, before_);
  *current_.sets = {};
  current_.begin = now;
  if (age >= 2 * kWindow) {
    *before_.sets = {};
    before_.begin = now;
  }
  if (samples_ < kSamplesWanted / 4) interval_ = interval_ < kIntervalMin ? 0 : interval_ / 2;
  samples_ = 0;
}

PairSampler::Report PairSampler::report(TimePoint now) {
  turn_over(now);
  Report report{.pairs = {}, .covers = now - before_.begin};
  for (const Window* const window : {&current_, &before_}) {
    for (const Set& set : *window->sets)
      std::ranges::copy_if(set, std::back_inserter(report.pairs),
                           [](const Pair& pair) { return pair.packets != 0; });
  }
  return report;
}

}  // namespace detour::relay
