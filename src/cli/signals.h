#pragma once

#include <csignal>

namespace detour::cli {

/// The signals that end or reload the program, for the main thread to wait for or to look at;
/// blocked in every thread that is made from now on.
class ServeSignals {
 public:
  ServeSignals();
  ~ServeSignals();
  ServeSignals(const ServeSignals&) = delete;
  ServeSignals& operator=(const ServeSignals&) = delete;

  /// Waits for one of them and gives its number.
  [[nodiscard]] int wait() const;
  /// Whether one of them has come; takes it. Does not wait.
  [[nodiscard]] bool has_come() const;

 private:
  sigset_t set_{};
  sigset_t before_{};
};

}  // namespace detour::cli
