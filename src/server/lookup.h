#pragma once

#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "net/address.h"

namespace detour::server {

/// Looks a host name up without making anybody wait for it.
///
/// The system's look-up blocks for as long as it likes and cannot be called off, so it runs on a
/// thread of its own. Owned and used by one thread; when destroyed, the answer is thrown away.
class Lookup {
 public:
  /// The addresses in the order in which to try them, at least one; or the reason in words.
  using Answer = std::expected<std::vector<net::SocketAddress>, std::string>;
  /// Called once, on the look-up's thread. Must not block.
  using OnAnswer = std::move_only_function<void(Answer)>;

  /// An IP address is answered at once, on the calling thread.
  Lookup(const std::string& host, std::uint16_t port, OnAnswer on_answer);
  ~Lookup();
  Lookup(const Lookup&) = delete;
  Lookup& operator=(const Lookup&) = delete;

 private:
  struct State;

  std::shared_ptr<State> state_;
};

}  // namespace detour::server
