#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "base/log.h"
#include "crypto/keys.h"
#include "relay/drop_watcher.h"

namespace detour::server {

/// Logs each packet that is dropped on its way to one of some keys: reason, size, source and
/// destination. For each key and reason 20 lines at once, then one a second, with how many were
/// held back.
///
/// Costs one look at a flag where no key is watched. Safe from any thread.
class DropLog final : public relay::DropWatcher {
 public:
  /// `log` must outlive this.
  explicit DropLog(Log& log) : log_(log) {}

  /// Watches these keys ("nodekey:" and 64 hex digits) and no others; what is no key is left out.
  void watch(std::span<const std::string> keys);

  [[nodiscard]] bool wants_drops() const override { return is_on_.load(std::memory_order_relaxed); }
  void on_drop(const relay::Drop& drop) override;

 private:
  /// By reason.
  using Gates = std::vector<std::unique_ptr<LogGate>>;

  Log& log_;
  std::atomic<bool> is_on_{false};
  std::mutex mutex_;
  std::map<crypto::NodePublic, Gates> gates_;
};

}  // namespace detour::server
