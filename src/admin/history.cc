#include "admin/history.h"

#include <numeric>

#include "base/check.h"

namespace detour::admin {
namespace {

metrics::PacketTotals sum_of(
    const std::array<metrics::PacketTotals, metrics::kPacketKindCount>& kinds) {
  metrics::PacketTotals sum;
  for (const auto& kind : kinds) {
    sum.packets += kind.packets;
    sum.bytes += kind.bytes;
  }
  return sum;
}

}  // namespace

Sample Sample::of(const metrics::Snapshot& snapshot, TimePoint at) {
  Sample sample{.at = at,
                .clients = snapshot.current_connections,
                .received = sum_of(snapshot.received),
                .sent = sum_of(snapshot.sent),
                .dropped = {},
                .stun_answers = snapshot.stun_success,
                .cpu_seconds = snapshot.process.cpu_seconds};
  for (std::size_t i = 0; i < sample.dropped.size(); ++i)
    sample.dropped[i] = sum_of(snapshot.dropped[i]).packets;
  return sample;
}

std::uint64_t Sample::dropped_in_all() const {
  return std::accumulate(dropped.begin(), dropped.end(), std::uint64_t{0});
}

Rates Rates::between(const Sample& before, const Sample& after) {
  const double passed = std::chrono::duration<double>(after.at - before.at).count();
  if (passed <= 0) return {};
  // Workers count while they are read, so a sum may seem to go back by a little.
  const auto rate = [passed](auto then, auto now) {
    return now <= then ? 0.0 : static_cast<double>(now - then) / passed;
  };
  Rates rates{.received_bytes = rate(before.received.bytes, after.received.bytes),
              .sent_bytes = rate(before.sent.bytes, after.sent.bytes),
              .received_packets = rate(before.received.packets, after.received.packets),
              .sent_packets = rate(before.sent.packets, after.sent.packets),
              .dropped = rate(before.dropped_in_all(), after.dropped_in_all()),
              .dropped_by_reason = {},
              .stun_answers = rate(before.stun_answers, after.stun_answers),
              .cpu = rate(before.cpu_seconds, after.cpu_seconds)};
  for (std::size_t i = 0; i < rates.dropped_by_reason.size(); ++i)
    rates.dropped_by_reason[i] = rate(before.dropped[i], after.dropped[i]);
  return rates;
}

void History::add(const Sample& sample) {
  if (samples_.size() < kSamplesMax) {
    samples_.push_back(sample);
  } else {
    samples_[next_ % kSamplesMax] = sample;
  }
  ++next_;
}

const Sample& History::at(std::uint64_t number) const {
  DETOUR_CHECK(number < next_ && next_ - number <= samples_.size());
  return samples_[number % kSamplesMax];
}

const Sample* History::before(TimePoint now, Duration age) const {
  const Sample* found = nullptr;
  for (std::uint64_t left = samples_.size(), number = next_; left > 0; --left) {
    found = &at(--number);
    if (now - found->at >= age) break;
  }
  return found;
}

}  // namespace detour::admin
