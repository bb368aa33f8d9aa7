#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/buffer_pool.h"
#include "base/byte_buffer.h"
#include "base/clock.h"
#include "metrics/counters.h"
#include "relay/drop_watcher.h"
#include "relay/outbox.h"

namespace detour::relay {

/// Bounds of one client's queues. Bytes follow from packets: 32 of 64 KiB at most in each.
struct QueueLimits {
  std::uint32_t packets_max = 32;  ///< In the data queue and in the disco queue each; at least 1.
  /// Frames that are not packets (PeerGone, KeepAlive, Pong) that may wait.
  std::uint32_t control_frames_max = 4096;
};

/// Frames that wait because their client's socket is full.
///
/// Three queues: control first, then disco, then data, each in order. When data or disco is full
/// its oldest packet makes way: tunnelled traffic prefers fresh packets to stale ones. Disco and
/// data never displace each other. Part of a client's sending side: hold that client's lock. Holds
/// memory only while something waits.
class SendQueues {
 public:
  explicit SendQueues(const QueueLimits& limits) : limits_(limits) {}

  [[nodiscard]] bool empty() const { return state_ == nullptr; }

  /// Splits `batch` into its frames and queues each. Counts evicted packets as queue_head, control
  /// frames over their bound as control_frames_dropped. A Pong that waits already stands for later
  /// ones. `site`, when given, hears of evicted packets.
  void push(const FrameBatch& batch, TimePoint now, BufferPool& pool,
            metrics::WorkerCounters& counters, const DropSite* site = nullptr);

  /// Moves frames, oldest first, to the end of `out` until it holds at least `bytes_max` or nothing
  /// is left. Gives what was moved; time in queue is folded into the counters' average.
  BatchStats pop(ByteBuffer& out, std::size_t bytes_max, TimePoint now, BufferPool& pool,
                 metrics::WorkerCounters& counters);

  /// Throws everything away; packets are counted under `reason`, and `site` hears of them.
  void clear(metrics::DropReason reason, BufferPool& pool, metrics::WorkerCounters& counters,
             const DropSite* site = nullptr);

  /// Bytes that wait, with frame heads.
  [[nodiscard]] std::size_t bytes() const;

  /// What waits, for who looks at a client.
  struct Lengths {
    std::array<std::size_t, metrics::kPacketKindCount> packets{};
    std::size_t control_frames = 0;
  };
  [[nodiscard]] Lengths lengths() const;
  /// Packets that made way for newer ones, since the client came.
  [[nodiscard]] std::uint64_t evicted() const { return evicted_; }

 private:
  struct Packet {
    Block block;
    std::uint32_t size = 0;  ///< The whole frame.
    std::uint32_t head_size = 0;
    TimePoint queued_at{};

    [[nodiscard]] std::uint64_t payload_bytes() const { return size - head_size; }
    [[nodiscard]] std::span<const std::uint8_t> frame() const { return {block.data(), size}; }
  };
  /// First in, first out, over a fixed array.
  struct Ring {
    std::vector<Packet> packets;
    std::size_t head = 0;
    std::size_t count = 0;
  };
  struct State {
    std::array<Ring, metrics::kPacketKindCount> rings;
    ByteBuffer control;
    BatchStats control_stats;
    std::size_t bytes = 0;
  };

  void push_packet(std::span<const std::uint8_t> frame, std::size_t head_size,
                   metrics::PacketKind kind, TimePoint now, BufferPool& pool,
                   metrics::WorkerCounters& counters, const DropSite* site);
  void push_control(std::span<const std::uint8_t> frame, metrics::WorkerCounters& counters);
  [[nodiscard]] Packet pop_packet(Ring& ring);

  QueueLimits limits_;
  std::unique_ptr<State> state_;
  std::uint64_t evicted_ = 0;
};

}  // namespace detour::relay
