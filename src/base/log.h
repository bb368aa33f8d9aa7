#pragma once

#include <atomic>
#include <cstdint>
#include <string_view>

#include "base/clock.h"

namespace detour {

enum class LogLevel : std::uint8_t { kDebug, kInfo, kWarn, kError };

/// Where log lines go. Implementations are safe to call from any thread and never block the caller
/// on a slow reader of the log.
class Log {
 public:
  virtual ~Log() = default;

  /// One line, without its newline. `message` is only read during the call.
  virtual void write(LogLevel level, std::string_view message) = 0;

  void debug(std::string_view message) { write(LogLevel::kDebug, message); }
  void info(std::string_view message) { write(LogLevel::kInfo, message); }
  void warn(std::string_view message) { write(LogLevel::kWarn, message); }
  void error(std::string_view message) { write(LogLevel::kError, message); }
};

/// Lets the first `burst` lines of one cause through, then one per `interval`, and counts the rest.
///
/// One object per distinct cause. Safe from any thread; a lost race lets one line too many through.
class LogGate {
 public:
  LogGate(std::uint32_t burst, Duration interval) : burst_(burst), interval_(interval) {}

  /// Whether a line may be written now. On true, `*suppressed` says how many were held back since
  /// the last line that went through.
  [[nodiscard]] bool admit(TimePoint now, std::uint64_t* suppressed);

 private:
  const std::uint32_t burst_;
  const Duration interval_;
  std::atomic<std::int64_t> window_start_{0};
  std::atomic<std::uint32_t> passed_{0};
  std::atomic<std::uint64_t> suppressed_{0};
};

}  // namespace detour
