#pragma once

#include <atomic>
#include <condition_variable>
#include <expected>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "admin/history.h"
#include "base/clock.h"
#include "config/config.h"
#include "http/message.h"
#include "net/address.h"
#include "server/side_server.h"

namespace detour::server {

class Shared;

/// The listener of --metrics-listen: /metrics, /healthz and /readyz of a running relay, and its
/// status page. Keeps the history that the page shows.
class Monitor {
 public:
  /// Binds, reads the token's file and begins to answer. `shared` has its workers by then and has
  /// to outlive the monitor.
  [[nodiscard]] static std::expected<std::unique_ptr<Monitor>, std::string> start(
      Shared& shared, const config::ListenAddress& address, const std::string& token_file);

  /// From now on the relay is not ready, and its workers are not asked any more.
  void begin_stop() { stopping_.store(true); }

  /// Reads the token's file again; on failure the old token stays.
  [[nodiscard]] std::expected<void, std::string> reload_token(const std::string& token_file);

  [[nodiscard]] net::SocketAddress address() const { return address_; }

 private:
  /// Whether each worker ran through its loop since it was asked. One question per worker is on its
  /// way at a time, so that nothing piles up with one that hangs.
  struct Pulse {
    std::mutex mutex;
    std::condition_variable answered;
    std::vector<std::optional<TimePoint>> asked_at;  ///< Per worker; empty = it has answered.
  };

  explicit Monitor(Shared& shared);

  [[nodiscard]] http::Response answer(const SideServer::Question& question);
  [[nodiscard]] http::Response answer_page_data(const http::Request& request);
  [[nodiscard]] admin::Sample sample() const;
  [[nodiscard]] std::optional<std::string> unhealthy();
  [[nodiscard]] std::optional<std::string> unready() const;

  Shared& shared_;
  const std::string run_;  ///< Another one after each start.
  std::atomic<bool> stopping_{false};
  const std::shared_ptr<Pulse> pulse_ = std::make_shared<Pulse>();
  std::mutex token_mutex_;
  std::string token_;
  net::SocketAddress address_;
  /// Of the server's thread, once that runs.
  admin::History history_;
  std::unique_ptr<SideServer> server_;  ///< Last, so that its thread ends first.
};

}  // namespace detour::server
