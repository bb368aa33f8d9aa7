#pragma once

#include <chrono>
#include <cstddef>
#include <expected>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "base/clock.h"
#include "http/message.h"
#include "net/address.h"
#include "net/fd.h"

namespace detour::server {

/// A small HTTP server on a thread of its own, for the few that watch a relay: it answers while the
/// workers are busy, and costs them nothing.
///
/// One request per connection. What is too much waits in the kernel.
class SideServer {
 public:
  static constexpr std::size_t kConnectionsMax = 16;

  struct Options {
    net::SocketAddress address;
    /// From accept to the last byte of the answer.
    Duration timeout = std::chrono::seconds(10);
    /// Called on the server's thread; other requests wait meanwhile.
    std::function<http::Response(const http::Request&)> answer;
  };

  /// Binds and starts the thread. The text says what could not be bound, and what to do.
  [[nodiscard]] static std::expected<std::unique_ptr<SideServer>, std::string> start(
      Options options);

  /// Ends all connections and the thread.
  ~SideServer();
  SideServer(const SideServer&) = delete;
  SideServer& operator=(const SideServer&) = delete;

  [[nodiscard]] net::SocketAddress address() const;

 private:
  class Client;
  class Loop;

  SideServer() = default;

  net::UniqueFd listener_;
  net::UniqueFd stop_;
  std::thread thread_;
};

}  // namespace detour::server
