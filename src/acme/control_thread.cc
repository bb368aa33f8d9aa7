#include "acme/control_thread.h"

#include <utility>

namespace detour::acme {

ControlThread::ControlThread(Step step)
    : step_(std::move(step)), thread_([this](const std::stop_token& stop) { run(stop); }) {}

ControlThread::~ControlThread() = default;

void ControlThread::wake() {
  {
    const std::lock_guard lock(mutex_);
    woken_ = true;
  }
  changed_.notify_all();
}

void ControlThread::run(const std::stop_token& stop) {
  bool was_woken = false;
  while (!stop.stop_requested()) {
    const Duration pause = step_(stop, was_woken);
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, stop, pause, [this] { return woken_; });
    was_woken = std::exchange(woken_, false);
  }
}

bool sleep_unless(const std::stop_token& stop, Duration duration) {
  std::mutex mutex;
  std::condition_variable_any never;
  std::unique_lock lock(mutex);
  never.wait_for(lock, stop, duration, [] { return false; });
  return !stop.stop_requested();
}

}  // namespace detour::acme
