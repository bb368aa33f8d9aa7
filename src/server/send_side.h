#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/buffer_pool.h"
#include "base/byte_buffer.h"
#include "base/clock.h"
#include "metrics/counters.h"
#include "net/fd.h"
#include "net/transport.h"
#include "relay/outbox.h"
#include "relay/send_queues.h"

namespace detour::server {

/// What a worker lends to the connections it handles: scratch memory, counters, the time of the
/// turn.
struct WorkerScratch {
  explicit WorkerScratch(BlockDepot* depot = nullptr) : pool(depot) {}

  TimePoint now{};
  BufferPool pool;
  ByteBuffer cipher_in;  ///< What recv() filled.
  ByteBuffer plain;      ///< Opened input.
  ByteBuffer gathered;   ///< Frames taken from a queue.
  ByteBuffer sealed;     ///< Records on their way to send().
  metrics::WorkerCounters counters;
};

/// Told when a socket has become full, on the worker that found out; says who hears of drops.
class StallWatcher {
 public:
  /// With the connection's lock held, so that `fd` is open: has to make epoll say when it can take
  /// more. Until then nobody waits for that, which spares each login a wake-up.
  virtual void wait_until_writable(int fd) = 0;

  /// Without the lock: somebody has to look after the write timeout.
  virtual void on_blocked(WorkerScratch& scratch) = 0;

  /// Who wants to hear of dropped packets, if anybody does now.
  [[nodiscard]] virtual std::optional<relay::DropSite> drop_site() { return std::nullopt; }

 protected:
  ~StallWatcher() = default;
};

/// A connection's socket and record layer, and what waits to be sent: everything that other workers
/// may touch, behind one lock.
///
/// Any worker may deliver(); it seals and sends by itself instead of handing packets over. When the
/// lock is taken, the batch goes into an inbox and whoever holds the lock sends it along: nobody
/// waits. The reading side takes the same lock while OpenSSL opens records, because an SSL object
/// cannot be used from two threads at once.
class SendSide {
 public:
  SendSide(net::UniqueFd fd, const relay::QueueLimits& limits, StallWatcher& watcher);

  /// The record layer; given once, by the owner, before anything is read or sent.
  void set_transport(std::unique_ptr<net::Transport> transport);
  [[nodiscard]] bool has_transport() const { return transport_ != nullptr; }
  /// Puts a layer around the record layer: `wrap` takes the one that is there and gives the one to
  /// use from now on. Owner only, before login.
  template <typename Wrap>
  void wrap_transport(Wrap wrap) {
    const std::lock_guard lock(mutex_);
    transport_ = wrap(std::move(transport_));
  }

  /// Sends whole frames, queues them behind what already waits, leaves them to whoever is sending,
  /// or drops and counts them. Any worker.
  void deliver(relay::FrameBatch batch, WorkerScratch& scratch);

  struct Opened {
    std::size_t size = 0;  ///< Plaintext appended to scratch.plain.
    net::Transport::Opened status = net::Transport::Opened::kNeedsInput;
    std::size_t unread = 0;  ///< Bytes at the end of the input to give again, before what follows.
    bool blocked = false;
  };
  /// Opens ciphertext and appends the plaintext to scratch.plain, whose room must be enough for all
  /// of it. Owner only.
  [[nodiscard]] Opened open(std::span<const std::uint8_t> input, WorkerScratch& scratch);

  struct Handshaken {
    net::Transport::Handshake status = net::Transport::Handshake::kFailed;
    net::Transport::Version version = net::Transport::Version::kUnknown;
    std::string failure;
  };
  /// Goes on with the handshake. Input that lies behind it is opened by a later open() with no
  /// input.
  [[nodiscard]] Handshaken handshake(std::span<const std::uint8_t> input, WorkerScratch& scratch);
  [[nodiscard]] std::string failure();

  /// Seals and sends bytes that are not relayed frames: HTTP, ServerKey. They never queue behind
  /// frames, because there are none before login. Owner only.
  void send(std::span<const std::uint8_t> plaintext, WorkerScratch& scratch);
  /// The same, but keeps the lock between sealing and sending while `before_sending` runs: what it
  /// makes visible cannot send anything ahead of `plaintext`.
  template <typename Action>
  void send(std::span<const std::uint8_t> plaintext, WorkerScratch& scratch,
            Action before_sending) {
    mutex_.lock();
    seal_locked(plaintext, scratch);
    before_sending();
    write_sealed_locked(scratch);
    unlock(scratch);
  }

  /// The socket can take more: sends what waits.
  void on_writable(WorkerScratch& scratch);

  struct Stall {
    bool blocked = false;
    TimePoint last_progress{};
  };
  /// Whether something waits for the socket, and since when it took nothing. When nothing waits the
  /// watcher will be told anew. Owner only.
  [[nodiscard]] Stall stall(WorkerScratch& scratch);

  /// Ends our side in order: announces it and shuts the socket down for sending, once nothing
  /// waits. False while something still waits.
  [[nodiscard]] bool finish(WorkerScratch& scratch);

  /// Once in a while: lets go of what a quiet connection does not need.
  void rest();

  /// What went to this client, and what waits for it.
  struct Facts {
    std::uint64_t sent_packets = 0;
    std::uint64_t sent_bytes = 0;       ///< Payload only.
    std::uint64_t evicted_packets = 0;  ///< Dropped, because newer ones needed the place.
    relay::SendQueues::Lengths waiting;
    std::size_t waiting_bytes = 0;  ///< With heads, and with records that the socket did not take.
  };
  /// Owner only.
  [[nodiscard]] Facts facts(WorkerScratch& scratch);

  enum class Ending : std::uint8_t {
    kAnnounced,    ///< Tells the peer, if the socket takes it.
    kPeerGone,     ///< The peer closed its end: nobody is there to tell.
    kWriteFailed,  ///< What was being written counts as write_error.
  };
  /// Frees everything; queued packets are counted as gone_disconnected.
  void close(WorkerScratch& scratch, Ending ending);

  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  /// Memory of the batches from other workers that wait for the holder of the lock. The holder may
  /// have lost its core for milliseconds, so this is far more than one turn brings; beyond it the
  /// oldest batches make way, as they do in the queues.
  static constexpr std::size_t kInboxBytesMax = 4 * 1024 * 1024;
  /// Plaintext gathered from the queues for one send.
  static constexpr std::size_t kDrainBytes = 32 * 1024;

  void seal_locked(std::span<const std::uint8_t> plaintext, WorkerScratch& scratch);
  /// Sends scratch.sealed; what the socket does not take becomes unsent_.
  void write_sealed_locked(WorkerScratch& scratch);
  bool write_unsent_locked(WorkerScratch& scratch);
  void keep_unsent_locked(std::span<const std::uint8_t> rest, WorkerScratch& scratch);
  void deliver_locked(relay::FrameBatch batch, WorkerScratch& scratch);
  void drain_queues_locked(WorkerScratch& scratch);
  [[nodiscard]] bool blocked_locked() const { return unsent_begin_ != unsent_end_; }
  void fail_locked();
  void unlock(WorkerScratch& scratch);
  void leave_in_inbox(relay::FrameBatch batch, WorkerScratch& scratch);
  void take_inbox_locked(WorkerScratch& scratch);
  void count_sent_locked(const relay::BatchStats& stats, WorkerScratch& scratch);
  void drop(const relay::FrameBatch& batch, metrics::DropReason reason, WorkerScratch& scratch);

  std::mutex mutex_;
  net::UniqueFd fd_;
  std::unique_ptr<net::Transport> transport_;
  relay::SendQueues queues_;
  /// Sealed bytes that the socket did not take: unsent_[begin, end).
  Block unsent_;
  std::size_t unsent_begin_ = 0;
  std::size_t unsent_end_ = 0;
  TimePoint last_progress_{};
  std::uint64_t sent_packets_ = 0;
  std::uint64_t sent_bytes_ = 0;
  StallWatcher& watcher_;
  bool watched_ = false;
  bool failed_ = false;  ///< The socket is broken; the owner closes it when epoll tells.
  bool closed_ = false;

  std::mutex inbox_mutex_;
  std::vector<relay::FrameBatch> inbox_;
  /// What was in the inbox while the holder of mutex_ delivers it. The two take turns and keep
  /// their memory, so that a client to whom several workers send at once costs no allocation.
  std::vector<relay::FrameBatch> taken_;
  std::size_t inbox_bytes_ = 0;
  std::uint64_t inbox_evicted_ = 0;  ///< Packets.
  std::atomic<bool> inbox_waiting_{false};
};

}  // namespace detour::server
