#include "server/send_side.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace detour::server {

using metrics::DropReason;
using metrics::PacketKind;

SendSide::SendSide(net::UniqueFd fd, const relay::QueueLimits& limits, StallWatcher& watcher)
    : fd_(std::move(fd)), queues_(limits), watcher_(watcher) {}

void SendSide::set_transport(std::unique_ptr<net::Transport> transport) {
  const std::lock_guard lock(mutex_);
  transport_ = std::move(transport);
}

// --- Delivery by any worker

void SendSide::deliver(relay::FrameBatch batch, WorkerScratch& scratch) {
  if (mutex_.try_lock()) {
    take_inbox_locked(scratch);
    deliver_locked(std::move(batch), scratch);
    unlock(scratch);
    return;
  }
  leave_in_inbox(std::move(batch), scratch);
  // The holder looks at the inbox after it unlocks. If that was before our push, the lock is free.
  if (!mutex_.try_lock()) return;
  take_inbox_locked(scratch);
  unlock(scratch);
}

void SendSide::leave_in_inbox(relay::FrameBatch batch, WorkerScratch& scratch) {
  const std::lock_guard lock(inbox_mutex_);
  inbox_bytes_ += batch.block.capacity();
  inbox_.push_back(std::move(batch));
  while (inbox_bytes_ > kInboxBytesMax) {
    relay::FrameBatch& oldest = inbox_.front();
    inbox_bytes_ -= oldest.block.capacity();
    drop(oldest, DropReason::kQueueHead, scratch);
    for (std::size_t kind = 0; kind < metrics::kPacketKindCount; ++kind)
      inbox_evicted_ += oldest.stats.packets[kind].packets + oldest.stats.forwarded[kind].packets;
    scratch.pool.put(std::move(oldest.block));
    inbox_.erase(inbox_.begin());
  }
  inbox_waiting_.store(true, std::memory_order_seq_cst);
}

void SendSide::deliver_locked(relay::FrameBatch batch, WorkerScratch& scratch) {
  if (closed_ || failed_) {
    drop(batch, DropReason::kGoneDisconnected, scratch);
  } else if (blocked_locked() || !queues_.empty()) {
    const auto site = watcher_.drop_site();
    queues_.push(batch, scratch.now, scratch.pool, scratch.counters, site ? &*site : nullptr);
  } else {
    seal_locked(batch.bytes(), scratch);
    write_sealed_locked(scratch);
    count_sent_locked(batch.stats, scratch);
  }
  scratch.pool.put(std::move(batch.block));
}

void SendSide::take_inbox_locked(WorkerScratch& scratch) {
  if (!inbox_waiting_.load(std::memory_order_seq_cst)) return;
  {
    const std::lock_guard lock(inbox_mutex_);
    std::swap(taken_, inbox_);
    inbox_bytes_ = 0;
    inbox_waiting_.store(false, std::memory_order_seq_cst);
  }
  for (relay::FrameBatch& batch : taken_) deliver_locked(std::move(batch), scratch);
  taken_.clear();
}

void SendSide::unlock(WorkerScratch& scratch) {
  for (;;) {
    const bool newly_blocked = blocked_locked() && !watched_;
    if (newly_blocked) {
      watched_ = true;
      watcher_.wait_until_writable(fd_.get());
    }
    mutex_.unlock();
    if (newly_blocked) watcher_.on_blocked(scratch);
    // Whoever failed to lock meanwhile left its batch behind and relies on us to see it.
    if (!inbox_waiting_.load(std::memory_order_seq_cst)) return;
    if (!mutex_.try_lock()) return;
    take_inbox_locked(scratch);
  }
}

// --- Sealing and sending

void SendSide::seal_locked(std::span<const std::uint8_t> plaintext, WorkerScratch& scratch) {
  if (closed_ || failed_ || !transport_) return;
  if (!transport_->seal(plaintext, scratch.sealed)) fail_locked();
}

void SendSide::write_sealed_locked(WorkerScratch& scratch) {
  if (scratch.sealed.empty()) return;
  if (closed_ || failed_) {
    scratch.sealed.clear();
    return;
  }
  auto bytes = scratch.sealed.bytes();
  if (!blocked_locked()) {
    const ssize_t sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) {
      bytes = bytes.subspan(static_cast<std::size_t>(sent));
    } else if (errno != EAGAIN && errno != EINTR) {
      fail_locked();
      bytes = {};
    }
    if (!bytes.empty()) last_progress_ = scratch.now;
  }
  keep_unsent_locked(bytes, scratch);
  scratch.sealed.clear();
}

void SendSide::keep_unsent_locked(std::span<const std::uint8_t> rest, WorkerScratch& scratch) {
  if (rest.empty()) return;
  const std::size_t waiting = unsent_end_ - unsent_begin_;
  if (unsent_.capacity() - unsent_end_ < rest.size()) {
    Block larger = scratch.pool.get(waiting + rest.size());
    if (waiting != 0) std::memcpy(larger.data(), unsent_.data() + unsent_begin_, waiting);
    if (unsent_) scratch.pool.put(std::move(unsent_));
    unsent_ = std::move(larger);
    unsent_begin_ = 0;
    unsent_end_ = waiting;
  }
  std::memcpy(unsent_.data() + unsent_end_, rest.data(), rest.size());
  unsent_end_ += rest.size();
}

bool SendSide::write_unsent_locked(WorkerScratch& scratch) {
  while (blocked_locked()) {
    const ssize_t sent = ::send(fd_.get(), unsent_.data() + unsent_begin_,
                                unsent_end_ - unsent_begin_, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN) fail_locked();
      return false;
    }
    unsent_begin_ += static_cast<std::size_t>(sent);
    last_progress_ = scratch.now;
  }
  unsent_begin_ = unsent_end_ = 0;
  if (unsent_) scratch.pool.put(std::exchange(unsent_, Block{}));
  return true;
}

void SendSide::drain_queues_locked(WorkerScratch& scratch) {
  while (!failed_ && write_unsent_locked(scratch) && !queues_.empty()) {
    scratch.gathered.clear();
    const relay::BatchStats stats =
        queues_.pop(scratch.gathered, kDrainBytes, scratch.now, scratch.pool, scratch.counters);
    seal_locked(scratch.gathered.bytes(), scratch);
    scratch.gathered.clear();
    write_sealed_locked(scratch);
    count_sent_locked(stats, scratch);
  }
}

void SendSide::on_writable(WorkerScratch& scratch) {
  mutex_.lock();
  if (!closed_ && !failed_ && blocked_locked()) drain_queues_locked(scratch);
  unlock(scratch);
}

void SendSide::send(std::span<const std::uint8_t> plaintext, WorkerScratch& scratch) {
  send(plaintext, scratch, [] {});
}

// --- The reading side

SendSide::Opened SendSide::open(std::span<const std::uint8_t> input, WorkerScratch& scratch) {
  mutex_.lock();
  Opened opened;
  if (!input.empty()) transport_->feed(input);
  const auto result = transport_->open(scratch.plain.room(), scratch.sealed);
  scratch.plain.commit(result.size);
  opened.size = result.size;
  opened.status = result.status;
  opened.unread = result.unread;
  write_sealed_locked(scratch);
  opened.blocked = blocked_locked();
  unlock(scratch);
  return opened;
}

SendSide::Handshaken SendSide::handshake(std::span<const std::uint8_t> input,
                                         WorkerScratch& scratch) {
  mutex_.lock();
  Handshaken made;
  transport_->feed(input);
  made.status = transport_->handshake(scratch.sealed);
  if (made.status == net::Transport::Handshake::kFailed) made.failure = transport_->failure();
  if (made.status == net::Transport::Handshake::kDone) {
    made.version = transport_->version();
    if (auto successor = transport_->successor()) transport_ = std::move(successor);
  }
  write_sealed_locked(scratch);
  unlock(scratch);
  return made;
}

std::string SendSide::failure() {
  const std::lock_guard lock(mutex_);
  return transport_ ? transport_->failure() : std::string();
}

SendSide::Stall SendSide::stall(WorkerScratch& scratch) {
  mutex_.lock();
  const Stall stall{.blocked = !closed_ && blocked_locked(), .last_progress = last_progress_};
  watched_ = stall.blocked;
  unlock(scratch);
  return stall;
}

// --- The end

bool SendSide::finish(WorkerScratch& scratch) {
  mutex_.lock();
  bool done = true;
  if (!closed_ && !failed_) {
    drain_queues_locked(scratch);
    done = failed_ || (!blocked_locked() && queues_.empty());
    if (done && !failed_) {
      if (transport_) transport_->seal_close(scratch.sealed);
      write_sealed_locked(scratch);
      ::shutdown(fd_.get(), SHUT_WR);
    }
  }
  unlock(scratch);
  return done;
}

void SendSide::rest() {
  const std::lock_guard lock(mutex_);
  if (transport_) transport_->rest();
}

SendSide::Facts SendSide::facts(WorkerScratch& scratch) {
  mutex_.lock();
  Facts facts{.sent_packets = sent_packets_,
              .sent_bytes = sent_bytes_,
              .evicted_packets = queues_.evicted(),
              .waiting = queues_.lengths(),
              .waiting_bytes = queues_.bytes() + (unsent_end_ - unsent_begin_)};
  unlock(scratch);
  const std::lock_guard lock(inbox_mutex_);
  facts.evicted_packets += inbox_evicted_;
  return facts;
}

void SendSide::close(WorkerScratch& scratch, Ending ending) {
  mutex_.lock();
  if (!closed_) {
    if (ending == Ending::kWriteFailed && blocked_locked())
      scratch.counters.drop(DropReason::kWriteError, PacketKind::kOther, 0);
    if (ending != Ending::kPeerGone && transport_ && !failed_ && !blocked_locked()) {
      transport_->seal_close(scratch.sealed);
      write_sealed_locked(scratch);
    }
    const auto site = watcher_.drop_site();
    queues_.clear(DropReason::kGoneDisconnected, scratch.pool, scratch.counters,
                  site ? &*site : nullptr);
    if (unsent_) scratch.pool.put(std::exchange(unsent_, Block{}));
    unsent_begin_ = unsent_end_ = 0;
    closed_ = true;
    transport_.reset();
    fd_.reset();
  }
  unlock(scratch);
}

void SendSide::fail_locked() {
  failed_ = true;
  // Wakes the owner, which closes the connection.
  if (fd_) ::shutdown(fd_.get(), SHUT_RDWR);
}

void SendSide::count_sent_locked(const relay::BatchStats& stats, WorkerScratch& scratch) {
  metrics::WorkerCounters& counters = scratch.counters;
  for (std::size_t kind = 0; kind < metrics::kPacketKindCount; ++kind) {
    counters.sent[kind].packets.add(stats.packets[kind].packets);
    counters.sent[kind].bytes.add(stats.packets[kind].bytes);
    sent_packets_ += stats.packets[kind].packets + stats.forwarded[kind].packets;
    sent_bytes_ += stats.packets[kind].bytes + stats.forwarded[kind].bytes;
  }
  if (stats.pongs != 0) counters.sent_pong.add(stats.pongs);
  if (stats.peer_gone_disconnected != 0)
    counters.peer_gone_disconnected.add(stats.peer_gone_disconnected);
  if (stats.peer_gone_not_here != 0) counters.peer_gone_not_here.add(stats.peer_gone_not_here);
  if (stats.frames != 0) counters.buffered_write_frames.observe(stats.frames);
}

void SendSide::drop(const relay::FrameBatch& batch, DropReason reason, WorkerScratch& scratch) {
  if (const auto site = watcher_.drop_site()) relay::report_drops(*site, reason, batch.bytes());
  std::uint64_t control_frames = batch.stats.frames;
  for (std::size_t kind = 0; kind < metrics::kPacketKindCount; ++kind) {
    auto& cell = scratch.counters.dropped[static_cast<std::size_t>(reason)][kind];
    const auto& forwarded = batch.stats.forwarded[kind];
    cell.packets.add(batch.stats.packets[kind].packets + forwarded.packets);
    cell.bytes.add(batch.stats.packets[kind].bytes + forwarded.bytes);
    control_frames -= batch.stats.packets[kind].packets;
  }
  if (control_frames != 0) scratch.counters.control_frames_dropped.add(control_frames);
}

}  // namespace detour::server
