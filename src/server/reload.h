#pragma once

#include <functional>
#include <utility>
#include <vector>

#include "config/config.h"

namespace detour::server {

/// The parts of a running relay that can take a changed configuration or read their files again.
///
/// Filled during Relay::start(), before the first worker runs; run on the thread that calls
/// Relay::reload(), one reload at a time. The workers go on meanwhile: what a subscriber gives to
/// them has to be published as an atomic, behind a lock or through their mailboxes.
class ReloadSubscribers {
 public:
  /// Gets the whole new configuration; the reference is valid during the call only. Files that the
  /// configuration names are to be read again even if their names are the same. A subscriber that
  /// cannot take something logs what and why, and goes on with what it had.
  using Subscriber = std::function<void(const config::Config& changed)>;

  void add(Subscriber subscriber) { subscribers_.push_back(std::move(subscriber)); }

  /// In the order in which they were added.
  void run(const config::Config& changed) const {
    for (const auto& subscriber : subscribers_) subscriber(changed);
  }

 private:
  std::vector<Subscriber> subscribers_;
};

}  // namespace detour::server
