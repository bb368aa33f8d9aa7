#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "admin/bootstrap_dns.h"
#include "base/clock.h"
#include "base/log.h"
#include "metrics/exposition.h"

namespace detour::server {

/// Keeps the addresses of the names of /bootstrap-dns fresh, with the system's resolver, on a
/// thread of its own: look-ups may take as long as they like, and nobody waits for them.
class BootstrapDns {
 public:
  static constexpr Duration kRefreshInterval = std::chrono::minutes(10);
  /// For all names of one list; those that are not reached by then are missing until the next time.
  static constexpr Duration kRefreshBudget = std::chrono::minutes(1);
  /// Names remembered for the count of different ones.
  static constexpr std::size_t kQueriedNamesMax = 500;

  /// Looks up names; tests bring their own. Nothing when that fails, with `reason` set.
  struct Resolver {
    std::optional<std::vector<std::string>> (*addresses)(const std::string& name,
                                                         std::string& reason);
    std::optional<std::vector<std::string>> (*texts)(const std::string& name, std::string& reason);
  };
  [[nodiscard]] static Resolver system_resolver();

  /// Starts the thread if there is a name. `log` must outlive stop().
  BootstrapDns(std::vector<std::string> published, std::vector<std::string> unpublished, Log& log,
               Resolver resolver = system_resolver());
  ~BootstrapDns() { stop(); }
  BootstrapDns(const BootstrapDns&) = delete;
  BootstrapDns& operator=(const BootstrapDns&) = delete;

  /// Returns at once: a look-up that is under way ends by itself, and nobody hears of it.
  void stop();

  /// The body for a request; counts. Any thread.
  [[nodiscard]] std::string answer(std::string_view query, std::string_view peer_ip);
  /// Any thread.
  void fill(metrics::Snapshot& snapshot) const;

 private:
  struct State;

  std::shared_ptr<State> state_;
  std::atomic<std::uint64_t> requests_{0};
  std::atomic<std::uint64_t> published_hits_{0};
  std::atomic<std::uint64_t> published_misses_{0};
  std::atomic<std::uint64_t> unpublished_hits_{0};
  std::atomic<std::uint64_t> unpublished_misses_{0};
  std::atomic<std::uint64_t> unpublished_percent_misses_{0};
  mutable std::mutex queried_mutex_;
  std::unordered_set<std::string> queried_;
};

/// One list looked up: entries are "name" or "name/txt-record". For the thread, and for tests.
[[nodiscard]] admin::BootstrapNames resolve_bootstrap_list(const std::vector<std::string>& entries,
                                                           const BootstrapDns::Resolver& resolver,
                                                           Duration budget,
                                                           std::vector<std::string>& failures);

}  // namespace detour::server
