#include "server/drain.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <utility>

#include "server/shared.h"
#include "server/worker.h"

namespace detour::server {
namespace {

/// How often it is looked whether somebody is still here.
constexpr Duration kLookPeriod = std::chrono::milliseconds(50);
/// After the end: for those who close late.
constexpr Duration kGrace = std::chrono::seconds(2);

}  // namespace

Drain::~Drain() {
  stop();
}

void Drain::set_up(std::vector<int> listeners, std::function<void()> on_drained) {
  listeners_ = std::move(listeners);
  on_drained_ = std::move(on_drained);
}

bool Drain::begin(std::chrono::milliseconds over) {
  const std::lock_guard lock(mutex_);
  if (stopping_ || on_.load()) return false;
  on_.store(true);
  end_ = Clock::now() + std::min(over, kLongest);
  shared_.log.info(fmt::format("draining: {} clients leave within {} s, nobody else comes in",
                               shared_.directory.counts().connections,
                               std::chrono::ceil<std::chrono::seconds>(over).count()));
  workers_listening_.store(shared_.workers.size());
  for (const auto& worker : shared_.workers) worker->post_drain(end_);
  thread_ = std::thread([this] { wait_for_the_last(); });
  return true;
}

void Drain::stopped_listening() {
  if (workers_listening_.fetch_sub(1) != 1) return;
  // Who comes now is refused by the kernel, and tries another relay of the region at once.
  for (const int listener : listeners_)
    if (listener >= 0) ::shutdown(listener, SHUT_RD);
}

std::chrono::milliseconds Drain::left() const {
  const std::lock_guard lock(mutex_);
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end_ - Clock::now());
  return std::max(left, std::chrono::milliseconds(0));
}

void Drain::wait_for_the_last() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    const auto left = shared_.directory.counts().connections;
    const bool is_over = left == 0 || Clock::now() >= end_ + kGrace;
    if (is_over) {
      shared_.log.info(left == 0 ? std::string("drained: the last client has left")
                                 : fmt::format("drained: {} clients are still here", left));
      lock.unlock();
      if (on_drained_) on_drained_();
      return;
    }
    changed_.wait_for(lock, kLookPeriod);
  }
}

void Drain::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
}

}  // namespace detour::server
