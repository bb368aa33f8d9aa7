#pragma once

#include <csignal>

namespace detour::cli {

/// The signals that the main thread waits for, blocked in every thread that is made from now on.
class ServeSignals {
 public:
  ServeSignals();
  ~ServeSignals();
  ServeSignals(const ServeSignals&) = delete;
  ServeSignals& operator=(const ServeSignals&) = delete;

  /// Waits for one of them and gives its number.
  [[nodiscard]] int wait() const;

 private:
  sigset_t set_{};
  sigset_t before_{};
};

}  // namespace detour::cli
