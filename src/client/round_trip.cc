#include "client/round_trip.h"

#include <utility>

namespace detour::client {

namespace {

Outcome<std::unique_ptr<Client>> log_in(DialOptions options) {
  options.key = crypto::NodePrivate::generate();
  return Client::dial(options);
}

enum class Arrival : std::uint8_t { kIntact, kDamaged, kLost };

/// Sends `packet` and waits for it on the other side. One that differs is passed over, for it may
/// be an earlier one that came too late.
Outcome<Arrival> send_one_way(Client& from, Client& to, std::span<const std::uint8_t> packet,
                              TimePoint deadline) {
  if (auto sent = from.send(to.public_key(), packet, deadline - Clock::now()); !sent)
    return std::unexpected(std::move(sent.error()));
  Arrival arrival = Arrival::kLost;
  for (;;) {
    auto received = to.receive_packet(deadline - Clock::now());
    if (!received) return std::unexpected(std::move(received.error()));
    if (!*received) return arrival;
    const bool intact =
        (*received)->source == from.public_key() && std::ranges::equal((*received)->bytes, packet);
    if (intact) return Arrival::kIntact;
    arrival = Arrival::kDamaged;
  }
}

}  // namespace

Outcome<RoundTrips> measure_round_trips(const RoundTripOptions& options, const OnLogin& on_login,
                                        const OnRoundTrip& on_round_trip) {
  auto near = log_in(options.dial);
  if (!near) return std::unexpected(std::move(near.error()));
  auto far = log_in(options.other.value_or(options.dial));
  if (!far) return std::unexpected(std::move(far.error()));

  RoundTrips result{.relay = (*near)->relay()};
  if (options.other) result.other = (*far)->relay();
  if (on_login) {
    on_login(result.relay);
    if (result.other) on_login(*result.other);
  }
  std::vector<std::uint8_t> packet(options.size);
  for (std::uint32_t number = 1; number <= options.count; ++number) {
    crypto::random_bytes(packet);
    const TimePoint start = Clock::now();
    const TimePoint deadline = start + options.timeout;
    ++result.sent;
    auto arrival = send_one_way(**near, **far, packet, deadline);
    if (arrival && *arrival == Arrival::kIntact)
      arrival = send_one_way(**far, **near, packet, deadline);
    if (!arrival) return std::unexpected(std::move(arrival.error()));

    std::optional<Duration> time;
    if (*arrival == Arrival::kIntact) time = Clock::now() - start;
    if (*arrival == Arrival::kDamaged) ++result.corrupt;
    if (time) result.times.push_back(*time);
    if (on_round_trip && !on_round_trip(number, time)) break;
  }
  return result;
}

}  // namespace detour::client
