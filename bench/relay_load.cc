#include "bench/relay_load.h"

#include <fmt/format.h>
#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "base/check.h"
#include "derp/frame.h"

namespace detour::bench {

namespace {

constexpr std::uint64_t kLoginTimeMaxNs = 30'000'000'000;
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

  [[nodiscard]] client::Outcome<void> log_in() {
    for (std::uint32_t i = 0; i < connections_.size(); ++i) {
      if (auto result = connections_[i]->start(epoll_fd_, first_source_ + i); !result)
        return result;
    }
    const std::uint64_t deadline = now_ns() + kLoginTimeMaxNs;
    while (!std::ranges::all_of(connections_, [](const auto& c) { return c->is_open(); })) {
      if (auto result = handle_events(kIdleWaitNs); !result) return result;
      if (now_ns() > deadline)
        return client::give_up(client::Layer::kLogin, "not everybody is logged in after 30 s");
    }
    return {};
  }

  /// Sends and receives until the schedule ends. Runs in a thread of its own.
  void run(const Schedule& schedule) {
    schedule_ = schedule;
    next_due_ns_ = now_ns();
    if (!is_paced()) {
      for (auto& flow : flows_) queue(flow.get());
    }
    for (std::uint64_t now = now_ns(); now < schedule.measure_until; now = now_ns()) {
      auto result = is_paced() ? send_due(now) : pump_queued();
      if (result) result = handle_events(time_to_wait(now));
      if (!result) {
        failure_ = result.error();
        return;
      }
      if (now - last_loss_check_ns_ > kLossCheckNs) check_losses(now);
    }
  }

  [[nodiscard]] const Counts& counts() const { return counts_; }
  [[nodiscard]] const std::optional<client::Failure>& failure() const { return failure_; }
  [[nodiscard]] std::string tls_name() const {
    const auto& tls = connections_.front()->tls();
    return fmt::format("{} {}", tls.version_name(), tls.cipher_name());
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

void sleep_until(std::uint64_t deadline_ns) {
  const std::uint64_t now = now_ns();
  if (deadline_ns > now) std::this_thread::sleep_for(std::chrono::nanoseconds(deadline_ns - now));
}

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
  for (const auto& loop : loops) {
    if (auto result = loop->log_in(); !result) return std::unexpected(result.error());
  }
  for (const auto& loop : background) {
    if (auto result = loop->log_in(); !result) return std::unexpected(result.error());
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
  sleep_until(schedule.measure_from);
  Usage usage(server);
  sleep_until(schedule.measure_until);
  usage.stop();
  threads.clear();  // Joins.
  if (const auto failure = first_failure(loops)) return std::unexpected(*failure);
  if (const auto failure = first_failure(background)) return std::unexpected(*failure);

  const double seconds = seconds_of(nanoseconds(options.duration));
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
  add_counts(counts, options.traffic, seconds, &report);
  if (has_background) add_counts(beside, options.background, seconds, &report["background"]);
  usage.add_to(&report);
  const double gib = (static_cast<double>(counts.delivered) * options.traffic.payload_bytes +
                      static_cast<double>(beside.delivered) * options.background.payload_bytes) /
                     kGibibyte;
  if (server.is_watched() && gib > 0)
    report["server_cpu_s_per_gib"] = usage.server_cpu_seconds() / gib;
  return report;
}

}  // namespace detour::bench
