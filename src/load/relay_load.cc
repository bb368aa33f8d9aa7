#include "load/relay_load.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "load/login_pool.h"
#include "load/relay_loop.h"

namespace detour::load {

namespace {

/// Bystanders that log in at a time.
constexpr std::uint32_t kLoginsAtOnce = 32;
constexpr std::chrono::milliseconds kTick{50};

std::uint64_t nanoseconds(std::chrono::milliseconds time) {
  return static_cast<std::uint64_t>(std::chrono::nanoseconds(time).count());
}

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
        pool_(settings, std::max(1U, clients), kLoginsAtOnce, LoginPool::AfterLogin::kKeep) {}

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
