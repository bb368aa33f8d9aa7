#include "cli/log_spdlog.h"

#include <poll.h>
#include <spdlog/async_logger.h>
#include <spdlog/details/null_mutex.h>
#include <spdlog/details/thread_pool.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <mutex>

namespace detour::cli {
namespace {

constexpr std::size_t kLogQueueLines = 8192;
constexpr std::size_t kWriterThreads = 1;
/// poll() says that a pipe is writable when at least this much fits (PIPE_BUF), so a write of no
/// more cannot block.
constexpr std::size_t kWriteSizeMax = 4096;
constexpr auto kPollStep = std::chrono::milliseconds(50);
constexpr auto kLastWords = std::chrono::milliseconds(500);
constexpr auto kPattern = "%Y-%m-%dT%H:%M:%S.%e%z %l %v";

spdlog::level::level_enum to_spdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarn:
      return spdlog::level::warn;
    case LogLevel::kError:
      break;
  }
  return spdlog::level::err;
}

}  // namespace

/// Writes to the descriptor without ever being stuck in write(), so that the program can end while
/// nobody reads its log.
class SpdlogLog::Sink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit Sink(int fd) : fd_(fd) {}

  /// From now on there is only kLastWords for everything that still waits.
  void hurry() { deadline_.store(Clock::now() + kLastWords); }

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    std::string_view rest(line.data(), line.size());
    while (!rest.empty()) {
      if (!wait_until_writable()) return;
      const ssize_t written = ::write(fd_, rest.data(), std::min(rest.size(), kWriteSizeMax));
      if (written < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      if (written <= 0) return;  // Nobody is there to be told.
      rest.remove_prefix(static_cast<std::size_t>(written));
    }
  }
  void flush_() override {}

 private:
  /// False when the line has to be given up.
  bool wait_until_writable() {
    pollfd poll_entry{.fd = fd_, .events = POLLOUT, .revents = 0};
    while (true) {
      const bool late = Clock::now() >= deadline_.load();
      const int timeout_ms = late ? 0 : static_cast<int>(kPollStep.count());
      if (::poll(&poll_entry, 1, timeout_ms) > 0) return true;
      if (late) return false;
    }
  }

  const int fd_;
  std::atomic<TimePoint> deadline_{TimePoint::max()};
};

SpdlogLog::SpdlogLog(int fd)
    : sink_(std::make_shared<Sink>(fd)),
      writer_(std::make_shared<spdlog::details::thread_pool>(kLogQueueLines, kWriterThreads)),
      logger_(std::make_shared<spdlog::async_logger>(
          "detour", sink_, writer_, spdlog::async_overflow_policy::overrun_oldest)) {
  logger_->set_pattern(kPattern);
  logger_->set_level(spdlog::level::info);
}

SpdlogLog::~SpdlogLog() {
  sink_->hurry();
  // Writes what is queued, then joins its thread. The logger goes after it, so that it is freed
  // here and not by a thread in the middle of its last line.
  writer_.reset();
  logger_.reset();
}

void SpdlogLog::write(LogLevel level, std::string_view message) {
  logger_->log(to_spdlog(level), spdlog::string_view_t(message.data(), message.size()));
}

void log_lines(Log& log, LogLevel level, std::string_view text) {
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    log.write(level, text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

}  // namespace detour::cli
