#include "relay/send_queues.h"

#include <cstring>
#include <utility>

#include "base/check.h"

namespace detour::relay {

namespace {

using metrics::PacketKind;

constexpr PacketKind kDrainOrder[] = {PacketKind::kDisco, PacketKind::kOther};

void observe_queue_time(Duration waited, metrics::WorkerCounters& counters) {
  // The reference's average: weight 0.1, in whole milliseconds (server-behaviour: sender loop).
  constexpr double kWeight = 0.1;
  const auto milliseconds = std::chrono::duration_cast<std::chrono::milliseconds>(waited).count();
  const double old = counters.average_queue_duration_ms.load(std::memory_order_relaxed);
  counters.average_queue_duration_ms.store(
      old + kWeight * (static_cast<double>(milliseconds) - old), std::memory_order_relaxed);
}

/// What stands in front of the packet in a frame of this type; 0 when it carries none.
std::size_t packet_head_size(derp::FrameType type) {
  switch (type) {
    case derp::FrameType::kRecvPacket:
      return derp::kRecvPacketHeadSize;
    case derp::FrameType::kForwardPacket:
      return derp::kForwardPacketHeadSize;
    default:
      return 0;
  }
}

}  // namespace

void SendQueues::push(const FrameBatch& batch, TimePoint now, BufferPool& pool,
                      metrics::WorkerCounters& counters, const DropSite* site) {
  if (!state_) state_ = std::make_unique<State>();
  auto rest = batch.bytes();
  while (!rest.empty()) {
    const auto header = derp::read_frame_header(rest.first<derp::kFrameHeaderSize>());
    const auto frame = rest.first(derp::kFrameHeaderSize + header.payload_size);
    rest = rest.subspan(frame.size());
    const std::size_t head_size = packet_head_size(header.type);
    if (head_size == 0) {
      push_control(frame, counters);
      continue;
    }
    const bool disco = derp::is_disco(frame.subspan(head_size));
    push_packet(frame, head_size, disco ? PacketKind::kDisco : PacketKind::kOther, now, pool,
                counters, site);
  }
}

void SendQueues::push_packet(std::span<const std::uint8_t> frame, std::size_t head_size,
                             PacketKind kind, TimePoint now, BufferPool& pool,
                             metrics::WorkerCounters& counters, const DropSite* site) {
  Ring& ring = state_->rings[static_cast<std::size_t>(kind)];
  if (ring.packets.empty()) ring.packets.resize(limits_.packets_max);
  if (ring.count == ring.packets.size()) {
    Packet oldest = pop_packet(ring);
    counters.drop(metrics::DropReason::kQueueHead, kind, oldest.payload_bytes());
    if (site != nullptr) report_drop(*site, metrics::DropReason::kQueueHead, oldest.frame());
    ++evicted_;
    observe_queue_time(now - oldest.queued_at, counters);
    pool.put(std::move(oldest.block));
  }
  Packet& packet = ring.packets[(ring.head + ring.count) % ring.packets.size()];
  packet.block = pool.get(frame.size());
  std::memcpy(packet.block.data(), frame.data(), frame.size());
  packet.size = static_cast<std::uint32_t>(frame.size());
  packet.head_size = static_cast<std::uint32_t>(head_size);
  packet.queued_at = now;
  ++ring.count;
  state_->bytes += frame.size();
}

void SendQueues::push_control(std::span<const std::uint8_t> frame,
                              metrics::WorkerCounters& counters) {
  BatchStats& stats = state_->control_stats;
  const auto type = derp::FrameType{frame[0]};
  if (type == derp::FrameType::kPong && stats.pongs != 0) return;
  if (stats.frames >= limits_.control_frames_max) {
    counters.control_frames_dropped.add();
    return;
  }
  state_->control.append(frame);
  state_->bytes += frame.size();
  ++stats.frames;
  if (type == derp::FrameType::kPong) ++stats.pongs;
  if (type == derp::FrameType::kPeerGone) {
    const auto reason = derp::PeerGoneReason{frame.back()};
    ++(reason == derp::PeerGoneReason::kDisconnected ? stats.peer_gone_disconnected
                                                     : stats.peer_gone_not_here);
  }
}

SendQueues::Packet SendQueues::pop_packet(Ring& ring) {
  Packet packet = std::exchange(ring.packets[ring.head], Packet{});
  ring.head = (ring.head + 1) % ring.packets.size();
  --ring.count;
  state_->bytes -= packet.size;
  return packet;
}

BatchStats SendQueues::pop(ByteBuffer& out, std::size_t bytes_max, TimePoint now, BufferPool& pool,
                           metrics::WorkerCounters& counters) {
  BatchStats moved;
  if (!state_) return moved;

  if (!state_->control.empty()) {
    out.append(state_->control.bytes());
    state_->bytes -= state_->control.size();
    state_->control.release();
    moved += std::exchange(state_->control_stats, BatchStats{});
  }
  for (const PacketKind kind : kDrainOrder) {
    Ring& ring = state_->rings[static_cast<std::size_t>(kind)];
    while (ring.count != 0) {
      if (out.size() >= bytes_max) return moved;
      Packet packet = pop_packet(ring);
      out.append({packet.block.data(), packet.size});
      observe_queue_time(now - packet.queued_at, counters);
      const bool is_forward = packet.head_size == derp::kForwardPacketHeadSize;
      auto& of_kind =
          (is_forward ? moved.forwarded : moved.packets)[static_cast<std::size_t>(kind)];
      ++of_kind.packets;
      of_kind.bytes += packet.payload_bytes();
      if (!is_forward) ++moved.frames;
      pool.put(std::move(packet.block));
    }
  }
  state_.reset();
  return moved;
}

void SendQueues::clear(metrics::DropReason reason, BufferPool& pool,
                       metrics::WorkerCounters& counters, const DropSite* site) {
  if (!state_) return;
  for (const PacketKind kind : kDrainOrder) {
    Ring& ring = state_->rings[static_cast<std::size_t>(kind)];
    while (ring.count != 0) {
      Packet packet = pop_packet(ring);
      counters.drop(reason, kind, packet.payload_bytes());
      if (site != nullptr) report_drop(*site, reason, packet.frame());
      pool.put(std::move(packet.block));
    }
  }
  state_.reset();
}

SendQueues::Lengths SendQueues::lengths() const {
  Lengths lengths;
  if (!state_) return lengths;
  for (std::size_t kind = 0; kind < metrics::kPacketKindCount; ++kind)
    lengths.packets[kind] = state_->rings[kind].count;
  lengths.control_frames = state_->control_stats.frames;
  return lengths;
}

std::size_t SendQueues::bytes() const {
  return state_ ? state_->bytes : 0;
}

}  // namespace detour::relay
