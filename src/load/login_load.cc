#include "load/login_load.h"

#include <limits>

#include "load/login_pool.h"

namespace detour::load {

namespace {

constexpr std::chrono::milliseconds kTick{20};
/// Without one login in this time, nobody will be let in any more.
constexpr std::uint64_t kStallNs = 30'000'000'000;

std::uint64_t nanoseconds(std::chrono::milliseconds time) {
  return static_cast<std::uint64_t>(std::chrono::nanoseconds(time).count());
}

/// Logs in until `time` or the number of logins is over. False when the watch has ended it.
client::Outcome<bool> run_for(LoginPool* pool, std::chrono::milliseconds time,
                              const LoginOptions& options) {
  const std::uint64_t start = now_ns();
  const bool by_number = options.logins_max > 0;
  const std::uint64_t logins_max =
      by_number ? options.logins_max : std::numeric_limits<std::uint64_t>::max();
  std::uint64_t last_done = pool->logins_done();
  std::uint64_t last_login_ns = start;
  for (std::uint64_t now = start; pool->logins_done() < logins_max; now = now_ns()) {
    if (!by_number && now >= start + nanoseconds(time)) break;
    if (auto result = pool->run_once(logins_max, kTick); !result)
      return std::unexpected(result.error());
    if (pool->logins_done() != last_done) {
      last_done = pool->logins_done();
      last_login_ns = now;
    } else if (now > last_login_ns + kStallNs) {
      return client::give_up(client::Layer::kLogin, "nobody was let in for 30 s");
    }
    const Progress progress{.seconds = seconds_of(now - start), .done = pool->logins_done()};
    if (options.watch && !options.watch(progress)) return false;
  }
  return true;
}

}  // namespace

client::Outcome<Report> run_login(const LoginOptions& options, const ServerProcess& server) {
  LoginPool pool(options.connection, options.keys, options.concurrent,
                 LoginPool::AfterLogin::kClose);
  client::Outcome<bool> goes_on = true;
  if (options.logins_max == 0) goes_on = run_for(&pool, options.warm_up, options);
  if (!goes_on) return std::unexpected(goes_on.error());

  const std::uint64_t logins_before = pool.logins_done();
  Usage usage(server);
  if (*goes_on) goes_on = run_for(&pool, options.duration, options);
  if (!goes_on) return std::unexpected(goes_on.error());
  usage.stop();
  const auto logins = static_cast<double>(pool.logins_done() - logins_before);

  Report report;
  report["mode"] = "login";
  report["concurrent"] = options.concurrent;
  report["tls"] = pool.tls_name();
  if (!*goes_on) report["stopped"] = true;
  report["fast_starts"] = pool.fast_starts();
  report["logins"] = logins;
  report["logins_per_s"] = logins / usage.seconds();
  report["login_us"] = latency_report(pool.login_times());
  usage.add_to(&report);
  if (server.is_watched() && logins > 0)
    report["server_cpu_ms_per_login"] = usage.server_cpu_seconds() * 1000.0 / logins;
  return report;
}

}  // namespace detour::load
