#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "crypto/keys.h"
#include "metrics/counters.h"

namespace detour::relay {

/// A packet that was thrown away.
struct Drop {
  metrics::DropReason reason;
  metrics::PacketKind kind;
  crypto::NodePublic source;
  crypto::NodePublic destination;
  std::size_t packet_size = 0;  ///< Bytes.
};

/// Hears of packets that are thrown away, for who looks for a fault. Called by any worker, with the
/// lock of a client's sending side held.
class DropWatcher {
 public:
  /// Cheap: asked before anything is gathered for on_drop().
  [[nodiscard]] virtual bool wants_drops() const = 0;
  virtual void on_drop(const Drop& drop) = 0;

 protected:
  ~DropWatcher() = default;
};

/// Where dropped frames were to go: for RecvPacket, which does not say it.
struct DropSite {
  DropWatcher& watcher;
  const crypto::NodePublic& destination;
};

/// Tells of the packet in a whole frame, RecvPacket or ForwardPacket; nothing of other frames.
void report_drop(const DropSite& site, metrics::DropReason reason,
                 std::span<const std::uint8_t> frame);

/// The same for all frames, which stand back to back.
void report_drops(const DropSite& site, metrics::DropReason reason,
                  std::span<const std::uint8_t> frames);

}  // namespace detour::relay
