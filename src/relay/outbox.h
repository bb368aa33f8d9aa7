#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/buffer_pool.h"
#include "base/clock.h"
#include "crypto/keys.h"
#include "derp/frame.h"
#include "metrics/counters.h"
#include "relay/client.h"

namespace detour::relay {

/// What a run of whole frames holds, for the counters.
struct BatchStats {
  std::uint32_t frames = 0;  ///< Without ForwardPackets.
  std::uint32_t pongs = 0;
  std::uint32_t peer_gone_disconnected = 0;
  std::uint32_t peer_gone_not_here = 0;
  struct Kind {
    std::uint32_t packets = 0;
    std::uint64_t bytes = 0;  ///< Payload only.
  };
  Kind packets[metrics::kPacketKindCount];
  Kind forwarded[metrics::kPacketKindCount];  ///< ForwardPackets, to a mesh link.

  BatchStats& operator+=(const BatchStats& other);
};

/// Whole frames for one client, back to back as they go on the wire. Move-only.
struct FrameBatch {
  Block block;
  std::size_t size = 0;
  BatchStats stats;

  [[nodiscard]] std::span<const std::uint8_t> bytes() const { return {block.data(), size}; }
};

/// Takes batches that are ready to be sealed and sent. The server does the sending; tests record.
class Delivery {
 public:
  virtual void deliver(Client& destination, FrameBatch batch) = 0;

 protected:
  ~Delivery() = default;
};

/// Gathers the frames of one turn by destination, so that each destination costs one lock, one seal
/// and one send however many packets it gets (docs/architecture.md, Life of a packet).
///
/// One per worker. A batch that fills up is delivered at once, the others at the end of the turn.
/// Does not allocate once its pool and table are warm.
class Outbox {
 public:
  Outbox(BufferPool& pool, Delivery& delivery);

  /// Appends a RecvPacket: header, source key, packet. `packet` is at most kPacketSizeMax.
  void add_packet(Client& destination, const crypto::NodePublic& source,
                  std::span<const std::uint8_t> packet, metrics::PacketKind kind);

  /// Appends a ForwardPacket for a mesh link: header, source key, destination key, packet.
  void add_forward(Client& mesh_link, const crypto::NodePublic& source,
                   const crypto::NodePublic& destination, std::span<const std::uint8_t> packet,
                   metrics::PacketKind kind);

  void add_pong(Client& destination, const derp::PingData& data);
  void add_peer_gone(Client& destination, const crypto::NodePublic& peer,
                     derp::PeerGoneReason reason);
  void add_keep_alive(Client& destination);
  /// Tells a client that the relay ends: to come back after so long, and to try for so long.
  void add_restarting(Client& destination, std::chrono::milliseconds reconnect_in,
                      std::chrono::milliseconds try_for);

  /// Delivers everything gathered. Call once at the end of a turn, while still online.
  void flush();

 private:
  struct Slot {
    Client* destination;
    FrameBatch batch;
  };
  /// Hash cell: valid only in the turn whose number it carries.
  struct Cell {
    std::uint64_t turn = 0;
    const Client* destination = nullptr;
    std::uint32_t slot = 0;
  };

  /// Room for `size` bytes at the end of the destination's batch.
  [[nodiscard]] FrameBatch& batch_with_room(Client& destination, std::size_t size);
  [[nodiscard]] Slot& slot_for(Client& destination);
  void grow_table();
  static void append(FrameBatch& batch, std::span<const std::uint8_t> bytes);

  BufferPool& pool_;
  Delivery& delivery_;
  std::vector<Slot> slots_;
  std::size_t used_ = 0;
  std::vector<Cell> cells_;
  std::uint64_t turn_ = 1;
  Client* last_destination_ = nullptr;
  std::size_t last_slot_ = 0;
};

}  // namespace detour::relay
