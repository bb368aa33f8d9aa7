#include "doctor/relay_proof.h"

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <span>

#include "base/bytes.h"
#include "crypto/keys.h"
#include "derp/frame.h"

namespace detour::doctor {
namespace {

using client::Client;

constexpr std::array<std::uint32_t, 3> kSizes = {1, 1400, derp::kPacketSizeMax};
constexpr std::uint32_t kRow = 16;  ///< Numbered packets; half of what a relay queues at least.
constexpr int kRoundTrips = 5;
constexpr std::uint32_t kBulkSize = 1400;
constexpr std::uint32_t kBulkInFlight = 24;

std::vector<std::uint8_t> random_packet(std::uint32_t size) {
  std::vector<std::uint8_t> packet(size);
  crypto::random_bytes(packet);
  return packet;
}

/// Two clients, or one that is both: a relay sends what a client addresses to itself back.
struct Pair {
  std::unique_ptr<Client> first;
  std::unique_ptr<Client> second;  ///< Null for one that is both.

  [[nodiscard]] Client& a() const { return *first; }
  [[nodiscard]] Client& b() const { return second ? *second : *first; }
};

/// Sends one packet and waits for it. False when it is lost or damaged.
bool send_one(Client& from, Client& to, std::uint32_t size, Duration timeout, Proof* proof) {
  const auto packet = random_packet(size);
  ++proof->sent;
  if (!from.send(to.public_key(), packet, timeout)) return false;
  const auto received = to.receive_packet(timeout);
  if (!received || !*received) return false;
  if ((*received)->bytes != packet || (*received)->source != from.public_key()) {
    ++proof->damaged;
    return false;
  }
  ++proof->arrived;
  return true;
}

void send_row(Client& from, Client& to, Duration timeout, Proof* proof) {
  std::vector<std::uint8_t> packet = random_packet(64);
  for (std::uint32_t i = 0; i < kRow; ++i) {
    write_be32(std::span(packet).first<4>(), i);
    ++proof->sent;
    if (!from.send(to.public_key(), packet, timeout)) return;
  }
  std::optional<std::uint32_t> last;
  for (std::uint32_t i = 0; i < kRow; ++i) {
    const auto received = to.receive_packet(timeout);
    if (!received || !*received || (*received)->bytes.size() < 4) return;
    const std::uint32_t number = read_be32(std::span((*received)->bytes).first<4>());
    if (last && number <= *last) proof->in_order = false;
    last = number;
    ++proof->arrived;
  }
}

/// The best time there and back of one byte.
Duration round_trip(const Pair& pair, Duration timeout) {
  Duration best = Duration::max();
  Proof ignored;
  for (int i = 0; i < kRoundTrips; ++i) {
    const TimePoint start = Clock::now();
    if (!send_one(pair.a(), pair.b(), 1, timeout, &ignored)) break;
    if (!send_one(pair.b(), pair.a(), 1, timeout, &ignored)) break;
    best = std::min(best, Clock::now() - start);
  }
  return best == Duration::max() ? Duration::zero() : best;
}

/// A window of packets kept on its way for a while, from one to the other.
double throughput(const Pair& pair, const ProofOptions& options) {
  const auto packet = random_packet(kBulkSize);
  const TimePoint start = Clock::now();
  const TimePoint end = start + options.throughput_time;
  std::uint64_t bytes = 0;
  std::uint32_t in_flight = 0;
  while (Clock::now() < end) {
    while (in_flight < kBulkInFlight) {
      if (!pair.a().send(pair.b().public_key(), packet, options.packet_timeout)) return 0;
      ++in_flight;
    }
    const auto received = pair.b().receive_packet(options.packet_timeout);
    if (!received) return 0;
    // A queue that overflowed lost the whole window; the next one goes on.
    in_flight = *received ? in_flight - 1 : 0;
    if (*received) bytes += (*received)->bytes.size();
  }
  const auto seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return static_cast<double>(bytes) * 8 / seconds;
}

/// Logs one key in; notes in `proof` how that failed.
std::unique_ptr<Client> log_in(client::DialOptions dial, Proof* proof) {
  // Without fast start a refusal shows behind the relay's key, not at some later time.
  dial.fast_start = false;
  auto client = Client::dial(dial);
  if (client) return std::move(*client);
  const auto& failure = client.error();
  const bool refused = failure.layer == client::Layer::kLogin && !failure.timed_out;
  proof->end = refused ? Proof::End::kRefused : Proof::End::kNoLogin;
  proof->failure = failure.text();
  return nullptr;
}

}  // namespace

Proof prove_relay(const ProofOptions& options) {
  Proof proof;
  client::DialOptions dial = options.dial;
  dial.key = options.key ? *options.key : crypto::NodePrivate::generate();
  Pair pair{.first = log_in(dial, &proof), .second = nullptr};
  if (!pair.first) return proof;
  if (!options.key) {
    dial.key = crypto::NodePrivate::generate();
    pair.second = log_in(dial, &proof);
    if (!pair.second) return proof;
  }

  const Duration timeout = options.packet_timeout;
  for (const std::uint32_t size : kSizes) {
    proof.sizes.push_back(size);
    const bool there = send_one(pair.a(), pair.b(), size, timeout, &proof);
    const bool back = there && send_one(pair.b(), pair.a(), size, timeout, &proof);
    if (there && back) continue;
    // What comes late now would be taken for the next packet.
    proof.lost_sizes.push_back(size);
    return proof;
  }
  send_row(pair.a(), pair.b(), timeout, &proof);
  send_row(pair.b(), pair.a(), timeout, &proof);
  if (proof.arrived == proof.sent) proof.round_trip = round_trip(pair, timeout);
  if (proof.arrived == proof.sent && options.throughput_time > Duration::zero())
    proof.bits_per_second = throughput(pair, options);
  return proof;
}

}  // namespace detour::doctor
