#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "client/failure.h"
#include "load/connection.h"
#include "load/flow.h"
#include "load/progress.h"
#include "load/traffic.h"

namespace detour::load {

/// The clients of one thread and the flows between them.
class RelayLoop {
 public:
  RelayLoop(const ConnectionSettings& settings, const Traffic& traffic, bool spin,
            std::uint64_t loss_after_ns, std::uint32_t first_source);
  ~RelayLoop();
  RelayLoop(const RelayLoop&) = delete;
  RelayLoop& operator=(const RelayLoop&) = delete;

  /// Logs everybody in. False when the watch has ended it before.
  [[nodiscard]] client::Outcome<bool> log_in(const Watch& watch);

  /// Sends and receives until the schedule ends or stop() is called. Runs in a thread of its own.
  void run(const Schedule& schedule);

  /// Any thread.
  void stop() { stop_.store(true, std::memory_order_relaxed); }
  /// Adds what was measured so far. Any thread.
  void add_to(Progress* progress) const;

  /// A connection has failed, and run() has ended. Any thread.
  [[nodiscard]] bool has_failed() const { return has_failed_.load(std::memory_order_acquire); }

  /// Once run() has ended, as all below.
  [[nodiscard]] const Counts& counts() const { return counts_; }
  [[nodiscard]] const std::optional<client::Failure>& failure() const { return failure_; }
  [[nodiscard]] std::string tls_name() const;

 private:
  [[nodiscard]] bool is_paced() const { return traffic_.packets_per_second > 0; }
  void queue(Flow* flow);
  [[nodiscard]] std::uint64_t time_to_wait(std::uint64_t now) const;
  [[nodiscard]] client::Outcome<void> handle_events(std::uint64_t wait_ns);
  void on_frame(const client::Frame& frame, std::uint64_t now);
  void queue_flows_of(const Connection* sender);
  [[nodiscard]] client::Outcome<void> pump_queued();
  /// Sends what the window of one flow allows.
  [[nodiscard]] client::Outcome<void> pump(Flow* flow);
  [[nodiscard]] client::Outcome<void> pump_bulk(Flow* flow);
  /// Sends the packets that are due, each flow in its turn.
  [[nodiscard]] client::Outcome<void> send_due(std::uint64_t now);
  void check_losses(std::uint64_t now);

  const Traffic traffic_;
  const bool spin_;
  const std::uint64_t loss_after_ns_;
  const std::uint32_t first_source_;
  const int epoll_fd_;
  Scratch scratch_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::vector<std::unique_ptr<Flow>> flows_;
  std::vector<Flow*> queued_;
  std::vector<std::uint8_t> bulk_;
  Schedule schedule_;
  Counts counts_;
  std::atomic<std::uint64_t> delivered_{0};
  std::atomic<std::uint64_t> lost_{0};
  std::atomic<bool> stop_{false};
  std::atomic<bool> has_failed_{false};
  std::optional<client::Failure> failure_;
  std::uint64_t last_loss_check_ns_ = 0;
  std::uint64_t next_due_ns_ = 0;
  double due_fraction_ = 0;
  std::uint64_t turn_ = 0;
};

}  // namespace detour::load
