#pragma once

#include <memory>
#include <string_view>

#include "base/log.h"

namespace spdlog {
class logger;
namespace details {
class thread_pool;
}  // namespace details
}  // namespace spdlog

namespace detour::cli {

/// Log lines on a descriptor, written by a thread of their own.
///
/// A reader of the log that stands still never holds up whoever writes: lines wait in a queue of
/// kLogQueueLines, then the oldest are overwritten. Lines still queued at destruction get
/// half a second.
class SpdlogLog final : public Log {
 public:
  /// `fd` has to stay open as long as this object lives; it is not closed.
  explicit SpdlogLog(int fd);
  ~SpdlogLog() override;
  SpdlogLog(const SpdlogLog&) = delete;
  SpdlogLog& operator=(const SpdlogLog&) = delete;

  void write(LogLevel level, std::string_view message) override;

 private:
  class Sink;
  std::shared_ptr<Sink> sink_;
  std::shared_ptr<spdlog::details::thread_pool> writer_;
  std::shared_ptr<spdlog::logger> logger_;
};

/// Writes a text of several lines as several lines of log.
void log_lines(Log& log, LogLevel level, std::string_view text);

}  // namespace detour::cli
