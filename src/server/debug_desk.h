#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "admin/debug_clients.h"
#include "admin/debug_traffic.h"
#include "admin/routes.h"
#include "base/clock.h"
#include "http/message.h"
#include "relay/client.h"

namespace detour::server {

class Shared;

/// Answers debug pages that need a picture of the relay, on a thread of its own, so that no worker
/// waits for the others. The thread begins with the first question.
class DebugDesk {
 public:
  /// Questions that wait for their answer at one time.
  static constexpr std::size_t kWaitingMax = 32;
  /// Streams of /debug/traffic that run at one time.
  static constexpr std::size_t kStreamsMax = 8;
  /// From one round of a stream to the next.
  static constexpr Duration kStreamPeriod = std::chrono::seconds(2);

  explicit DebugDesk(Shared& shared) : shared_(shared) {}
  /// Stops as stop() does.
  ~DebugDesk();
  DebugDesk(const DebugDesk&) = delete;
  DebugDesk& operator=(const DebugDesk&) = delete;

  /// A connection that waits, and its worker.
  struct Asker {
    relay::ClientId id = 0;
    std::size_t worker = 0;
  };
  /// Takes a question on, or says that there are too many. The answer comes by
  /// Worker::post_answer(). Any thread; does not wait.
  [[nodiscard]] bool ask(const Asker& asker, admin::SlowPage page, http::Request request);
  /// The connection has closed. Any thread.
  void left(relay::ClientId id);
  /// Ends the thread; questions stay unanswered. The workers' objects have to be there still.
  void stop();

 private:
  struct Question {
    Asker asker;
    http::Request request;
  };
  struct Stream {
    Asker asker;
    http::Request request;
    admin::TrafficStream traffic{};
    TimePoint next_at{};
    bool has_head = false;
  };

  void run();
  void answer(const Question& question) const;
  /// One round of a stream.
  void go_on(Stream& stream) const;
  [[nodiscard]] TimePoint next_round() const;

  Shared& shared_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Question> questions_;
  std::vector<Stream> streams_;
  std::size_t streams_at_work_ = 0;    ///< Taken out of the list for a round: none or one.
  std::vector<relay::ClientId> gone_;  ///< Left while the thread was at work.
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace detour::server
