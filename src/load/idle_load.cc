#include "load/idle_load.h"

#include <fmt/format.h>

#include "load/login_pool.h"

namespace detour::load {

namespace {

/// Logging in everybody must be over by then.
constexpr std::uint64_t kLoginTimeMaxNs = 300'000'000'000;
constexpr std::chrono::milliseconds kTick{20};
/// Logged in before the first measurement, so that what a server sets up once is not counted as
/// memory of clients.
constexpr std::uint32_t kFirstClients = 16;

client::Outcome<void> log_in(LoginPool* pool, std::uint64_t clients) {
  const std::uint64_t deadline = now_ns() + kLoginTimeMaxNs;
  while (pool->logins_done() < clients) {
    if (auto result = pool->run_once(clients, kTick); !result) return result;
    if (now_ns() > deadline)
      return client::give_up(
          client::Layer::kLogin,
          fmt::format("only {} of {} clients logged in within {} s", pool->logins_done(), clients,
                      kLoginTimeMaxNs / 1'000'000'000));
  }
  return {};
}

client::Outcome<void> wait(LoginPool* pool, std::chrono::milliseconds time) {
  const std::uint64_t end =
      now_ns() + static_cast<std::uint64_t>(std::chrono::nanoseconds(time).count());
  while (now_ns() < end) {
    if (auto result = pool->run_once(0, kTick); !result) return result;
  }
  return {};
}

}  // namespace

client::Outcome<Report> run_idle(const IdleOptions& options, const ServerProcess& server) {
  LoginPool pool(options.connection, options.clients + kFirstClients, options.concurrent,
                 LoginPool::AfterLogin::kKeep);
  if (auto result = log_in(&pool, kFirstClients); !result) return std::unexpected(result.error());
  if (auto result = wait(&pool, std::chrono::milliseconds(500)); !result)
    return std::unexpected(result.error());
  const std::uint64_t before = server.resident_bytes();

  const std::uint64_t begin_ns = now_ns();
  if (auto result = log_in(&pool, kFirstClients + options.clients); !result)
    return std::unexpected(result.error());
  const double login_seconds = seconds_of(now_ns() - begin_ns);
  const std::uint64_t peak = server.resident_bytes();
  if (auto result = wait(&pool, options.settle); !result) return std::unexpected(result.error());

  Usage usage(server);
  if (auto result = wait(&pool, std::chrono::milliseconds(1000)); !result)
    return std::unexpected(result.error());
  usage.stop();
  const std::uint64_t after = server.resident_bytes();

  Report report;
  report["mode"] = "idle";
  report["clients"] = options.clients;
  report["tls"] = pool.tls_name();
  report["login_seconds"] = login_seconds;
  report["rss_before_mib"] = static_cast<double>(before) / (1024.0 * 1024.0);
  report["rss_after_login_mib"] = static_cast<double>(peak) / (1024.0 * 1024.0);
  report["rss_settled_mib"] = static_cast<double>(after) / (1024.0 * 1024.0);
  report["bytes_per_client"] =
      (static_cast<double>(after) - static_cast<double>(before)) / options.clients;
  usage.add_to(&report);
  return report;
}

}  // namespace detour::load
