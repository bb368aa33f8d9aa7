#include "bench/login_load.h"

#include <limits>

#include "bench/login_pool.h"

namespace detour::bench {

namespace {

/// Many more than are ever logged in at once: a key comes back long after its last connection went.
constexpr std::uint32_t kKeys = 4096;
constexpr std::chrono::milliseconds kTick{20};

client::Outcome<void> run_for(LoginPool* pool, std::chrono::milliseconds time) {
  const std::uint64_t end =
      now_ns() + static_cast<std::uint64_t>(std::chrono::nanoseconds(time).count());
  while (now_ns() < end) {
    if (auto result = pool->run_once(std::numeric_limits<std::uint64_t>::max(), kTick); !result)
      return result;
  }
  return {};
}

}  // namespace

client::Outcome<Report> run_login(const LoginOptions& options, const ServerProcess& server) {
  LoginPool pool(options.connection, kKeys, options.concurrent, LoginPool::AfterLogin::kClose);
  if (auto result = run_for(&pool, options.warm_up); !result)
    return std::unexpected(result.error());

  const std::uint64_t logins_before = pool.logins_done();
  Usage usage(server);
  if (auto result = run_for(&pool, options.duration); !result)
    return std::unexpected(result.error());
  usage.stop();
  const auto logins = static_cast<double>(pool.logins_done() - logins_before);

  Report report;
  report["mode"] = "login";
  report["concurrent"] = options.concurrent;
  report["tls"] = pool.tls_name();
  report["fast_starts"] = pool.fast_starts();
  report["logins"] = logins;
  report["logins_per_s"] = logins / usage.seconds();
  usage.add_to(&report);
  if (server.is_watched() && logins > 0)
    report["server_cpu_ms_per_login"] = usage.server_cpu_seconds() * 1000.0 / logins;
  return report;
}

}  // namespace detour::bench
