#include "net/mailbox.h"

#include <sys/eventfd.h>

#include <utility>

#include "base/check.h"

namespace detour::net {

Mailbox::Mailbox() : event_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  DETOUR_CHECK(static_cast<bool>(event_));
}

void Mailbox::post(Task task) {
  bool was_empty;
  {
    const std::lock_guard lock(mutex_);
    was_empty = posted_.empty();
    posted_.push_back(std::move(task));
    has_posted_.store(true, std::memory_order_release);
  }
  if (was_empty) {
    const std::uint64_t one = 1;
    static_cast<void>(!::write(event_.get(), &one, sizeof one));
  }
}

void Mailbox::run_posted() {
  if (!has_posted_.load(std::memory_order_acquire)) return;
  {
    const std::lock_guard lock(mutex_);
    std::swap(posted_, running_);
    has_posted_.store(false, std::memory_order_relaxed);
  }
  for (Task& task : running_) task();
  running_.clear();
}

void Mailbox::on_event(std::uint32_t /*events*/) {
  std::uint64_t count;
  static_cast<void>(!::read(event_.get(), &count, sizeof count));
}

}  // namespace detour::net
