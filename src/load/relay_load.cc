#include "load/relay_load.h"

#include <fmt/format.h>
#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "base/check.h"
#include "derp/frame.h"
#include "load/login_pool.h"

namespace detour::load {

namespace {

constexpr std::uint64_t kLoginTimeMaxNs = 60'000'000'000;
/// More at once would only wait in the server's backlog.
constexpr std::uint32_t kLoginsAtOnce = 64;
constexpr std::chrono::milliseconds kTick{50};
/// A pacer that has fallen behind catches up at most this far; the rest of the load is left out.
constexpr std::uint64_t kBacklogMaxNs = 10'000'000;
constexpr std::uint64_t kLossCheckNs = 20'000'000;
constexpr std::uint64_t kIdleWaitNs = 20'000'000;
/// A full TLS record; bulk senders wait until the window lets them fill one.
constexpr std::size_t kRecordSize = 16 * 1024;

std::uint64_t nanoseconds(std::chrono::milliseconds time) {
  return static_cast<std::uint64_t>(std::chrono::nanoseconds(time).count());
}

/// What our packets begin with, in host byte order: they never leave the host.
struct Stamp {
  std::uint32_t magic;
  std::uint32_t flow;
  std::uint64_t sequence;
  std::uint64_t sent_ns;
};
constexpr std::uint32_t kStampMagic = 0x62746544;
static_assert(sizeof(Stamp) == 24);

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
  Flow(std::uint32_t id, Connection* sender, Connection* receiver, const Traffic& traffic)
      : id_(id),
        sender_(sender),
        receiver_key_(receiver->public_key()),
        window_(traffic.window),
        sent_at_(traffic.window),
        frame_(derp::kRecvPacketHeadSize + traffic.payload_bytes) {
    derp::write_send_packet_head(std::span(frame_).first<derp::kRecvPacketHeadSize>(),
                                 receiver_key_, traffic.payload_bytes);
    // Filler that differs between flows and positions, so that mixed-up bytes are seen.
    for (std::size_t i = derp::kRecvPacketHeadSize; i < frame_.size(); ++i)
      frame_[i] = static_cast<std::uint8_t>(i * 7 + id * 131);
  }

  [[nodiscard]] Connection* sender() const { return sender_; }
  [[nodiscard]] std::uint32_t room() const {
    return window_ - static_cast<std::uint32_t>(next_ - expected_);
  }
  [[nodiscard]] std::size_t frame_size() const { return frame_.size(); }

  /// The next SendPacket frame, valid until the next call. Requires room() > 0.
  [[nodiscard]] std::span<const std::uint8_t> make_frame() {
    const std::uint64_t now = now_ns();
    const Stamp stamp{.magic = kStampMagic, .flow = id_, .sequence = next_, .sent_ns = now};
    std::memcpy(frame_.data() + derp::kRecvPacketHeadSize, &stamp, sizeof stamp);
    sent_at_[next_ % window_] = now;
    ++next_;
    return frame_;
  }

  /// A packet that claims to be of this flow has arrived.
  void arrived(const derp::RecvPacket& packet, const Stamp& stamp, std::uint64_t now, bool counts,
               Counts* totals) {
    const auto filler = packet.packet.subspan(sizeof stamp);
    const auto* expected_filler = frame_.data() + derp::kRecvPacketHeadSize + sizeof stamp;
    const bool intact = packet.source == sender_->public_key() &&
                        packet.packet.size() + derp::kRecvPacketHeadSize == frame_.size() &&
                        std::memcmp(filler.data(), expected_filler, filler.size()) == 0 &&
                        stamp.sequence < next_;
    if (!intact) {
      ++totals->corrupt;
      return;
    }
    if (stamp.sequence < expected_) {
      ++totals->late;
      return;
    }
    const std::uint64_t lost = stamp.sequence - expected_;
    expected_ = stamp.sequence + 1;
    if (!counts) return;
    totals->lost += lost;
    ++totals->delivered;
    totals->latency.add(now - stamp.sent_ns);
  }

  /// Counts what was sent before `deadline_ns` and has not arrived as lost.
  void give_up_before(std::uint64_t deadline_ns, bool counts, Counts* totals) {
    while (expected_ < next_ && sent_at_[expected_ % window_] < deadline_ns) {
      ++expected_;
      if (counts) ++totals->lost;
    }
  }

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

/// The clients of one thread and the flows between them.
class RelayLoop {
 public:
  RelayLoop(const ConnectionSettings& settings, const Traffic& traffic, bool spin,
            std::uint64_t loss_after_ns, std::uint32_t first_source)
      : traffic_(traffic),
        spin_(spin),
        loss_after_ns_(loss_after_ns),
        epoll_fd_(epoll_create1(EPOLL_CLOEXEC)),
        bulk_(std::max<std::size_t>(kRecordSize, 1)) {
    DETOUR_CHECK(epoll_fd_ >= 0);
    first_source_ = first_source;
    for (std::uint32_t i = 0; i < traffic.senders + traffic.receivers; ++i) {
      const auto key = crypto::NodePrivate::generate();
      connections_.push_back(std::make_unique<Connection>(settings, key, key.public_key()));
    }
    const std::uint32_t flows = std::max(traffic.senders, traffic.receivers);
    for (std::uint32_t i = 0; i < flows; ++i) {
      Connection* sender = connections_[i % traffic.senders].get();
      Connection* receiver = connections_[traffic.senders + i % traffic.receivers].get();
      flows_.push_back(std::make_unique<Flow>(i, sender, receiver, traffic));
    }
  }
  ~RelayLoop() {
    for (auto& connection : connections_) connection->close();
    close(epoll_fd_);
  }
  RelayLoop(const RelayLoop&) = delete;
  RelayLoop& operator=(const RelayLoop&) = delete;

  /// Logs everybody in. False when the watch has ended it before.
  [[nodiscard]] client::Outcome<bool> log_in(const Watch& watch) {
    const std::uint64_t deadline = now_ns() + kLoginTimeMaxNs;
    for (std::size_t started = 0, open = 0; open < connections_.size();) {
      while (started < connections_.size() && started - open < kLoginsAtOnce) {
        const auto source = first_source_ + static_cast<std::uint32_t>(started);
        if (auto result = connections_[started++]->start(epoll_fd_, source); !result)
          return std::unexpected(result.error());
      }
      if (auto result = handle_events(kIdleWaitNs); !result) return std::unexpected(result.error());
      open = static_cast<std::size_t>(
          std::ranges::count_if(connections_, [](const auto& c) { return c->is_open(); }));
      if (watch && !watch({})) return false;
      if (now_ns() > deadline)
        return client::give_up(client::Layer::kLogin,
                               fmt::format("only {} of {} clients are logged in after {} s", open,
                                           connections_.size(), kLoginTimeMaxNs / 1'000'000'000));
    }
    return true;
  }

  /// Sends and receives until the schedule ends or stop() is called. Runs in a thread of its own.
  void run(const Schedule& schedule) {
    schedule_ = schedule;
    next_due_ns_ = now_ns();
    if (!is_paced()) {
      for (auto& flow : flows_) queue(flow.get());
    }
    for (std::uint64_t now = now_ns();
         now < schedule.measure_until && !stop_.load(std::memory_order_relaxed); now = now_ns()) {
      auto result = is_paced() ? send_due(now) : pump_queued();
      if (result) result = handle_events(time_to_wait(now));
      if (!result) {
        failure_ = result.error();
        has_failed_.store(true, std::memory_order_release);
        return;
      }
      if (now - last_loss_check_ns_ > kLossCheckNs) check_losses(now);
      delivered_.store(counts_.delivered, std::memory_order_relaxed);
      lost_.store(counts_.lost, std::memory_order_relaxed);
    }
  }

  /// Any thread.
  void stop() { stop_.store(true, std::memory_order_relaxed); }
  /// Adds what was measured so far. Any thread.
  void add_to(Progress* progress) const {
    const std::uint64_t delivered = delivered_.load(std::memory_order_relaxed);
    progress->done += delivered;
    progress->bytes += delivered * traffic_.payload_bytes;
    progress->lost += lost_.load(std::memory_order_relaxed);
  }

  /// A connection has failed, and run() has ended. Any thread.
  [[nodiscard]] bool has_failed() const { return has_failed_.load(std::memory_order_acquire); }

  /// Once run() has ended, as all below.
  [[nodiscard]] const Counts& counts() const { return counts_; }
  [[nodiscard]] const std::optional<client::Failure>& failure() const { return failure_; }
  [[nodiscard]] std::string tls_name() const {
    return connections_.front()->is_open() ? connections_.front()->transport_name() : "";
  }

 private:
  [[nodiscard]] bool is_paced() const { return traffic_.packets_per_second > 0; }

  void queue(Flow* flow) {
    if (flow->is_queued || is_paced()) return;
    flow->is_queued = true;
    queued_.push_back(flow);
  }

  [[nodiscard]] std::uint64_t time_to_wait(std::uint64_t now) const {
    if (spin_) return 0;
    if (!is_paced()) return kIdleWaitNs;
    return next_due_ns_ > now ? std::min(next_due_ns_ - now, kIdleWaitNs) : 0;
  }

  [[nodiscard]] client::Outcome<void> handle_events(std::uint64_t wait_ns) {
    std::array<epoll_event, 64> events;
    const timespec timeout{.tv_sec = 0, .tv_nsec = static_cast<long>(wait_ns)};
    const int count =
        epoll_pwait2(epoll_fd_, events.data(), static_cast<int>(events.size()), &timeout, nullptr);
    for (int i = 0; i < count; ++i) {
      const auto& event = events[static_cast<std::size_t>(i)];
      auto* connection = static_cast<Connection*>(event.data.ptr);
      const auto result = connection->on_events(
          event.events, scratch_,
          [this](const client::Frame& frame, std::uint64_t now) { on_frame(frame, now); });
      if (!result) return result;
      if (event.events & EPOLLOUT) queue_flows_of(connection);
      if (auto pumped = pump_queued(); !pumped) return pumped;
    }
    return {};
  }

  void on_frame(const client::Frame& frame, std::uint64_t now) {
    if (frame.type != derp::FrameType::kRecvPacket) return;
    const auto packet = derp::read_recv_packet(frame.payload);
    Stamp stamp{};
    if (!packet || packet->packet.size() < sizeof stamp) {
      ++counts_.corrupt;
      return;
    }
    std::memcpy(&stamp, packet->packet.data(), sizeof stamp);
    if (stamp.magic != kStampMagic || stamp.flow >= flows_.size()) {
      ++counts_.corrupt;
      return;
    }
    Flow* flow = flows_[stamp.flow].get();
    flow->arrived(*packet, stamp, now, schedule_.counts(now), &counts_);
    queue(flow);
  }

  void queue_flows_of(const Connection* sender) {
    if (is_paced() || schedule_.measure_until == 0) return;
    for (auto& flow : flows_) {
      if (flow->sender() == sender) queue(flow.get());
    }
  }

  [[nodiscard]] client::Outcome<void> pump_queued() {
    for (std::size_t i = 0; i < queued_.size(); ++i) {
      queued_[i]->is_queued = false;
      if (auto result = pump(queued_[i]); !result) return result;
    }
    queued_.clear();
    return {};
  }

  /// Sends what the window of one flow allows.
  [[nodiscard]] client::Outcome<void> pump(Flow* flow) {
    Connection* sender = flow->sender();
    if (sender->is_blocked()) return {};
    if (traffic_.packing == Packing::kBulk) return pump_bulk(flow);
    while (flow->room() > 0) {
      if (auto result = sender->seal(flow->make_frame()); !result) return result;
      if (traffic_.packing == Packing::kCoalesce) continue;
      if (auto result = sender->flush(); !result) return result;
      if (sender->is_blocked()) return {};
    }
    return sender->flush();
  }

  [[nodiscard]] client::Outcome<void> pump_bulk(Flow* flow) {
    const std::size_t full_record = std::max<std::size_t>(1, kRecordSize / flow->frame_size());
    if (flow->room() < std::min<std::size_t>(full_record, traffic_.window)) return {};
    bulk_.clear();
    while (flow->room() > 0) {
      const auto frame = flow->make_frame();
      bulk_.insert(bulk_.end(), frame.begin(), frame.end());
    }
    if (auto result = flow->sender()->seal(bulk_); !result) return result;
    return flow->sender()->flush();
  }

  /// Sends the packets that are due, each flow in its turn.
  [[nodiscard]] client::Outcome<void> send_due(std::uint64_t now) {
    const double interval_ns = 1e9 / traffic_.packets_per_second;
    if (now > next_due_ns_ + kBacklogMaxNs) next_due_ns_ = now - kBacklogMaxNs;
    while (next_due_ns_ <= now) {
      Flow* flow = flows_[turn_++ % flows_.size()].get();
      due_fraction_ += interval_ns;
      next_due_ns_ += static_cast<std::uint64_t>(due_fraction_);
      due_fraction_ -= static_cast<double>(static_cast<std::uint64_t>(due_fraction_));
      if (flow->room() == 0 || flow->sender()->is_blocked()) {
        if (schedule_.counts(now)) ++counts_.skipped;
        continue;
      }
      if (auto result = flow->sender()->seal(flow->make_frame()); !result) return result;
      if (auto result = flow->sender()->flush(); !result) return result;
    }
    return {};
  }

  void check_losses(std::uint64_t now) {
    last_loss_check_ns_ = now;
    for (auto& flow : flows_) {
      flow->give_up_before(now - loss_after_ns_, schedule_.counts(now), &counts_);
      queue(flow.get());
    }
  }

  const Traffic traffic_;
  const bool spin_;
  const std::uint64_t loss_after_ns_;
  std::uint32_t first_source_;
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

using Loops = std::vector<std::unique_ptr<RelayLoop>>;

/// The share of `total` that part `index` of `parts` gets.
std::uint32_t share(std::uint32_t total, std::uint32_t parts, std::uint32_t index) {
  return total / parts + (index < total % parts ? 1 : 0);
}

/// Deals the flows out to up to `threads` loops. Flows that share a client stay together.
Loops make_loops(const RelayOptions& options, const Traffic& traffic, std::uint32_t threads,
                 bool spin, std::uint32_t first_source) {
  Loops loops;
  if (traffic.senders == 0 || traffic.receivers == 0) return loops;
  const std::uint32_t parts =
      traffic.senders == traffic.receivers ? std::min(threads, traffic.senders) : 1;
  for (std::uint32_t i = 0; i < parts; ++i) {
    Traffic part = traffic;
    if (parts > 1) {
      part.senders = share(traffic.senders, parts, i);
      part.receivers = part.senders;
      part.packets_per_second = traffic.packets_per_second * part.senders / traffic.senders;
    }
    loops.push_back(std::make_unique<RelayLoop>(options.connection, part, spin,
                                                nanoseconds(options.loss_after), first_source));
    first_source += part.senders + part.receivers;
  }
  return loops;
}

Progress progress_of(const Loops& loops, std::uint64_t start_ns, const Schedule& schedule) {
  Progress progress{.seconds = seconds_of(now_ns() - start_ns),
                    .seconds_whole = seconds_of(schedule.measure_until - start_ns)};
  for (const auto& loop : loops) loop->add_to(&progress);
  return progress;
}

/// Sleeps, and lets the watch look in between. False when that ends the load, or a connection has.
bool sleep_until(std::uint64_t deadline_ns, const Watch& watch,
                 const std::function<Progress()>& progress, const std::function<bool()>& failed) {
  for (std::uint64_t now = now_ns(); now < deadline_ns; now = now_ns()) {
    std::this_thread::sleep_for(
        std::chrono::nanoseconds(std::min(deadline_ns - now, nanoseconds(kTick))));
    if (failed() || (watch && !watch(progress()))) return false;
  }
  return true;
}

/// Keeps clients logged in that say nothing, until it is destroyed.
class Bystanders {
 public:
  Bystanders(const ConnectionSettings& settings, std::uint32_t clients)
      : clients_(clients),
        pool_(settings, std::max(1U, clients), kLoginsAtOnce / 2, LoginPool::AfterLogin::kKeep) {}

  /// False when the watch has ended it before.
  [[nodiscard]] client::Outcome<bool> log_in(const Watch& watch) {
    while (pool_.logins_done() < clients_) {
      if (auto result = pool_.run_once(clients_, kTick); !result)
        return std::unexpected(result.error());
      if (watch && !watch({})) return false;
    }
    thread_ = std::jthread([this](const std::stop_token& stop) {
      while (!stop.stop_requested() && pool_.run_once(0, kTick)) {
      }
    });
    return true;
  }

 private:
  const std::uint32_t clients_;
  LoginPool pool_;
  std::jthread thread_;
};

/// Lets the calling thread run the moment that it has something to do, where the system permits.
void prefer_this_thread() {
  const sched_param priority{.sched_priority = 1};
  (void)pthread_setschedparam(pthread_self(), SCHED_FIFO, &priority);
}

Counts total_of(const Loops& loops) {
  Counts total;
  for (const auto& loop : loops) total.merge(loop->counts());
  return total;
}

void add_counts(const Counts& counts, const Traffic& traffic, double seconds, Report* report) {
  const double bytes =
      static_cast<double>(counts.delivered) * static_cast<double>(traffic.payload_bytes);
  const auto ended = static_cast<double>(counts.delivered + counts.lost);
  (*report)["delivered_packets"] = counts.delivered;
  (*report)["delivered_gib"] = bytes / kGibibyte;
  (*report)["gbit_per_s"] = bytes * 8 / 1e9 / seconds;
  (*report)["packets_per_s"] = static_cast<double>(counts.delivered) / seconds;
  (*report)["lost_packets"] = counts.lost;
  (*report)["lost_percent"] = ended > 0 ? 100.0 * static_cast<double>(counts.lost) / ended : 0.0;
  (*report)["late_packets"] = counts.late;
  (*report)["corrupt_packets"] = counts.corrupt;
  (*report)["skipped_packets"] = counts.skipped;
  (*report)["latency_us"] = latency_report(counts.latency);
}

std::string_view packing_name(Packing packing) {
  switch (packing) {
    case Packing::kPacket:
      return "packet";
    case Packing::kCoalesce:
      return "coalesce";
    case Packing::kBulk:
      return "bulk";
  }
  return "unknown";
}

std::optional<client::Failure> first_failure(const Loops& loops) {
  for (const auto& loop : loops) {
    if (loop->failure()) return loop->failure();
  }
  return std::nullopt;
}

}  // namespace

client::Outcome<Report> run_relay(const RelayOptions& options, const ServerProcess& server) {
  const bool has_background = options.background.senders > 0;
  // A spinning thread in front of the background load would starve it.
  const Loops loops =
      make_loops(options, options.traffic, options.threads, options.spin && !has_background, 0);
  const Loops background = make_loops(options, options.background, 1, options.spin, 1000);
  Bystanders bystanders(options.connection, options.bystanders);
  auto goes_on = bystanders.log_in(options.watch);
  if (!goes_on) return std::unexpected(goes_on.error());
  for (const auto* group : {&loops, &background}) {
    for (const auto& loop : *group) {
      if (*goes_on) goes_on = loop->log_in(options.watch);
      if (!goes_on) return std::unexpected(goes_on.error());
      if (!*goes_on) loop->stop();
    }
  }

  const std::uint64_t start_ns = now_ns();
  const Schedule schedule{
      .measure_from = start_ns + nanoseconds(options.warm_up),
      .measure_until = start_ns + nanoseconds(options.warm_up) + nanoseconds(options.duration)};
  std::vector<std::jthread> threads;
  for (const auto& loop : background) threads.emplace_back([&] { loop->run(schedule); });
  for (const auto& loop : loops) {
    threads.emplace_back([&] {
      if (has_background) prefer_this_thread();
      loop->run(schedule);
    });
  }
  const auto progress = [&] { return progress_of(loops, start_ns, schedule); };
  const auto failed = [&] {
    const auto has_failed = [](const auto& loop) { return loop->has_failed(); };
    return std::ranges::any_of(loops, has_failed) || std::ranges::any_of(background, has_failed);
  };
  goes_on = *goes_on && sleep_until(schedule.measure_from, options.watch, progress, failed);
  Usage usage(server);
  goes_on = *goes_on && sleep_until(schedule.measure_until, options.watch, progress, failed);
  usage.stop();
  const std::uint64_t measured_until = std::min(now_ns(), schedule.measure_until);
  for (const auto* group : {&loops, &background}) {
    for (const auto& loop : *group) loop->stop();
  }
  threads.clear();  // Joins.
  if (const auto failure = first_failure(loops)) return std::unexpected(*failure);
  if (const auto failure = first_failure(background)) return std::unexpected(*failure);

  // Stopped while it warmed up, it has measured nothing.
  const double seconds =
      std::max(1e-9, seconds_of(measured_until - std::min(measured_until, schedule.measure_from)));
  const Counts counts = total_of(loops);
  const Counts beside = total_of(background);
  Report report;
  report["mode"] = "relay";
  report["senders"] = options.traffic.senders;
  report["receivers"] = options.traffic.receivers;
  report["payload_bytes"] = options.traffic.payload_bytes;
  report["window"] = options.traffic.window;
  report["packing"] = packing_name(options.traffic.packing);
  report["offered_packets_per_s"] = options.traffic.packets_per_second;
  report["tls"] = loops.front()->tls_name();
  if (options.bystanders > 0) report["bystanders"] = options.bystanders;
  if (!*goes_on) report["stopped"] = true;
  add_counts(counts, options.traffic, seconds, &report);
  if (has_background) add_counts(beside, options.background, seconds, &report["background"]);
  usage.add_to(&report);
  const double gib = (static_cast<double>(counts.delivered) * options.traffic.payload_bytes +
                      static_cast<double>(beside.delivered) * options.background.payload_bytes) /
                     kGibibyte;
  if (server.is_watched() && gib > 0)
    report["server_cpu_s_per_gib"] = usage.server_cpu_seconds() / gib;
  if (server.is_watched() && counts.delivered + beside.delivered > 0)
    report["server_cpu_us_per_packet"] =
        usage.server_cpu_seconds() * 1e6 / static_cast<double>(counts.delivered + beside.delivered);
  return report;
}

}  // namespace detour::load
