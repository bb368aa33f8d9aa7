#include "relay/outbox.h"

#include <bit>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace detour::relay {

namespace {

constexpr std::size_t kCellsInitial = 512;

static_assert(BufferPool::kLargeSize >= derp::kForwardPacketHeadSize + derp::kPacketSizeMax);
static_assert(derp::kForwardPacketHeadSize > derp::kRecvPacketHeadSize);
static_assert(BufferPool::kSmallSize >= derp::kPeerGoneFrameSize);

std::size_t hash_pointer(const void* pointer) {
  const auto bits = std::bit_cast<std::uintptr_t>(pointer);
  return static_cast<std::size_t>((bits >> 6U) * 0x9e3779b97f4a7c15ULL >> 20U);
}

}  // namespace

BatchStats& BatchStats::operator+=(const BatchStats& other) {
  frames += other.frames;
  pongs += other.pongs;
  peer_gone_disconnected += other.peer_gone_disconnected;
  peer_gone_not_here += other.peer_gone_not_here;
  for (std::size_t i = 0; i < metrics::kPacketKindCount; ++i) {
    packets[i].packets += other.packets[i].packets;
    packets[i].bytes += other.packets[i].bytes;
    forwarded[i].packets += other.forwarded[i].packets;
    forwarded[i].bytes += other.forwarded[i].bytes;
  }
  return *this;
}

Outbox::Outbox(BufferPool& pool, Delivery& delivery)
    : pool_(pool), delivery_(delivery), cells_(kCellsInitial) {}

void Outbox::add_packet(Client& destination, const crypto::NodePublic& source,
                        std::span<const std::uint8_t> packet, metrics::PacketKind kind) {
  FrameBatch& batch = batch_with_room(destination, derp::kRecvPacketHeadSize + packet.size());
  std::uint8_t* const at = batch.block.data() + batch.size;
  derp::write_recv_packet_head(
      std::span<std::uint8_t, derp::kRecvPacketHeadSize>(at, derp::kRecvPacketHeadSize), source,
      packet.size());
  if (!packet.empty()) std::memcpy(at + derp::kRecvPacketHeadSize, packet.data(), packet.size());
  batch.size += derp::kRecvPacketHeadSize + packet.size();
  ++batch.stats.frames;
  auto& of_kind = batch.stats.packets[static_cast<std::size_t>(kind)];
  ++of_kind.packets;
  of_kind.bytes += packet.size();
}

void Outbox::add_forward(Client& mesh_link, const crypto::NodePublic& source,
                         const crypto::NodePublic& destination,
                         std::span<const std::uint8_t> packet, metrics::PacketKind kind) {
  FrameBatch& batch = batch_with_room(mesh_link, derp::kForwardPacketHeadSize + packet.size());
  std::uint8_t* const at = batch.block.data() + batch.size;
  derp::write_forward_packet_head(
      std::span<std::uint8_t, derp::kForwardPacketHeadSize>(at, derp::kForwardPacketHeadSize),
      source, destination, packet.size());
  if (!packet.empty()) std::memcpy(at + derp::kForwardPacketHeadSize, packet.data(), packet.size());
  batch.size += derp::kForwardPacketHeadSize + packet.size();
  auto& of_kind = batch.stats.forwarded[static_cast<std::size_t>(kind)];
  ++of_kind.packets;
  of_kind.bytes += packet.size();
}

void Outbox::add_pong(Client& destination, const derp::PingData& data) {
  FrameBatch& batch = batch_with_room(destination, derp::kPongFrameSize);
  append(batch, derp::encode_pong(data));
  ++batch.stats.pongs;
}

void Outbox::add_peer_gone(Client& destination, const crypto::NodePublic& peer,
                           derp::PeerGoneReason reason) {
  FrameBatch& batch = batch_with_room(destination, derp::kPeerGoneFrameSize);
  append(batch, derp::encode_peer_gone(peer, reason));
  ++(reason == derp::PeerGoneReason::kDisconnected ? batch.stats.peer_gone_disconnected
                                                   : batch.stats.peer_gone_not_here);
}

void Outbox::add_keep_alive(Client& destination) {
  append(batch_with_room(destination, derp::kKeepAliveFrame.size()), derp::kKeepAliveFrame);
}

void Outbox::add_restarting(Client& destination, std::chrono::milliseconds reconnect_in,
                            std::chrono::milliseconds try_for) {
  const auto frame = derp::encode_restarting(static_cast<std::uint32_t>(reconnect_in.count()),
                                             static_cast<std::uint32_t>(try_for.count()));
  append(batch_with_room(destination, frame.size()), frame);
}

void Outbox::append(FrameBatch& batch, std::span<const std::uint8_t> bytes) {
  std::memcpy(batch.block.data() + batch.size, bytes.data(), bytes.size());
  batch.size += bytes.size();
  ++batch.stats.frames;
}

FrameBatch& Outbox::batch_with_room(Client& destination, std::size_t size) {
  FrameBatch& batch = slot_for(destination).batch;
  if (batch.block.capacity() - batch.size >= size) return batch;

  if (batch.block && batch.block.capacity() >= BufferPool::kLargeSize) {
    delivery_.deliver(destination, std::exchange(batch, FrameBatch{}));
  }
  // Small first; what outgrows it moves once into a block that holds a whole read.
  Block larger = pool_.get(batch.size + size <= BufferPool::kSmallSize ? BufferPool::kSmallSize
                                                                       : BufferPool::kLargeSize);
  if (batch.size != 0) std::memcpy(larger.data(), batch.block.data(), batch.size);
  if (batch.block) pool_.put(std::move(batch.block));
  batch.block = std::move(larger);
  return batch;
}

Outbox::Slot& Outbox::slot_for(Client& destination) {
  if (last_destination_ == &destination) return slots_[last_slot_];

  if (2 * used_ >= cells_.size()) grow_table();
  const std::size_t mask = cells_.size() - 1;
  std::size_t i = hash_pointer(&destination) & mask;
  while (cells_[i].turn == turn_ && cells_[i].destination != &destination) i = (i + 1) & mask;
  if (cells_[i].turn != turn_) {
    if (used_ == slots_.size()) slots_.emplace_back();
    slots_[used_].destination = &destination;
    cells_[i] = {
        .turn = turn_, .destination = &destination, .slot = static_cast<std::uint32_t>(used_)};
    ++used_;
  }
  last_destination_ = &destination;
  last_slot_ = cells_[i].slot;
  return slots_[last_slot_];
}

void Outbox::grow_table() {
  std::vector<Cell> larger(cells_.size() * 2);
  const std::size_t mask = larger.size() - 1;
  for (std::size_t slot = 0; slot < used_; ++slot) {
    std::size_t i = hash_pointer(slots_[slot].destination) & mask;
    while (larger[i].turn == turn_) i = (i + 1) & mask;
    larger[i] = {.turn = turn_,
                 .destination = slots_[slot].destination,
                 .slot = static_cast<std::uint32_t>(slot)};
  }
  cells_ = std::move(larger);
}

void Outbox::flush() {
  for (std::size_t i = 0; i < used_; ++i) {
    Slot& slot = slots_[i];
    if (slot.batch.size != 0) {
      delivery_.deliver(*slot.destination, std::exchange(slot.batch, FrameBatch{}));
    } else if (slot.batch.block) {
      pool_.put(std::exchange(slot.batch, FrameBatch{}).block);
    }
    slot.destination = nullptr;
  }
  used_ = 0;
  ++turn_;
  last_destination_ = nullptr;
}

}  // namespace detour::relay
