#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "derp/frame.h"
#include "load/connection.h"
#include "load/histogram.h"
#include "load/traffic.h"

namespace detour::load {

/// What our packets begin with, in host byte order: they never leave the host.
struct Stamp {
  std::uint32_t magic;
  std::uint32_t flow;
  std::uint64_t sequence;
  std::uint64_t sent_ns;
};
inline constexpr std::uint32_t kStampMagic = 0x62746544;
static_assert(sizeof(Stamp) == 24);

/// What became of the packets of one or more flows.
struct Counts {
  std::uint64_t delivered = 0;
  std::uint64_t lost = 0;
  std::uint64_t late = 0;     ///< Came although counted as lost: reordered, or very slow.
  std::uint64_t corrupt = 0;  ///< Not a packet of ours as it was sent.
  std::uint64_t skipped = 0;  ///< Due, and not sent because the window was full.
  Histogram latency;

  void merge(const Counts& other) {
    delivered += other.delivered;
    lost += other.lost;
    late += other.late;
    corrupt += other.corrupt;
    skipped += other.skipped;
    latency.merge(other.latency);
  }
};

/// When counting begins and ends, in now_ns().
struct Schedule {
  std::uint64_t measure_from = 0;
  std::uint64_t measure_until = 0;

  [[nodiscard]] bool counts(std::uint64_t now) const {
    return now >= measure_from && now < measure_until;
  }
};

/// Packets from one client to another, numbered, with a bounded number in flight.
///
/// The relay keeps the order of a flow, so a gap in the numbers is loss and frees the window at
/// once; silence does so later.
class Flow {
 public:
  Flow(std::uint32_t id, Connection* sender, Connection* receiver, const Traffic& traffic);

  [[nodiscard]] Connection* sender() const { return sender_; }
  [[nodiscard]] std::uint32_t room() const {
    return window_ - static_cast<std::uint32_t>(next_ - expected_);
  }
  [[nodiscard]] std::size_t frame_size() const { return frame_.size(); }

  /// The next SendPacket frame, valid until the next call. Requires room() > 0.
  [[nodiscard]] std::span<const std::uint8_t> make_frame();

  /// A packet that claims to be of this flow has arrived.
  void arrived(const derp::RecvPacket& packet, const Stamp& stamp, std::uint64_t now, bool counts,
               Counts* totals);

  /// Counts what was sent before `deadline_ns` and has not arrived as lost.
  void give_up_before(std::uint64_t deadline_ns, bool counts, Counts* totals);

  bool is_queued = false;  ///< On the loop's list of flows to pump.

 private:
  const std::uint32_t id_;
  Connection* const sender_;
  const crypto::NodePublic receiver_key_;
  const std::uint32_t window_;
  std::uint64_t next_ = 0;      ///< The number of the next packet.
  std::uint64_t expected_ = 0;  ///< All packets before this one have arrived or are lost.
  std::vector<std::uint64_t> sent_at_;
  std::vector<std::uint8_t> frame_;
};

}  // namespace detour::load
