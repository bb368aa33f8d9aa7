#pragma once

#include <chrono>
#include <cstddef>
#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
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

  /// A request as it came. Valid during the call alone.
  struct Question {
    const http::Request& request;
    const net::SocketAddress& peer;
    std::string_view body = {};  ///< Empty unless Options::body_max lets it in.
  };

  struct Options {
    net::SocketAddress address;  ///< Not used when there is a listener.
    /// A listening socket that does not block, of any family.
    net::UniqueFd listener{};
    /// Whether a new connection may ask; the text is the answer (403) to those that may not.
    std::function<std::optional<std::string>(int fd)> refuse{};
    /// From accept to the last byte of the answer.
    Duration timeout = std::chrono::seconds(10);
    /// Called on the server's thread; other requests wait meanwhile.
    std::function<http::Response(const Question&)> answer;
    /// Bytes of a request's body at most: larger ones are refused (413), and those without a
    /// Content-Length (411). With 0 bodies are not looked at. At most http::kRequestBodyMax.
    std::size_t body_max = 0;
    /// Called on the server's thread, at first after one period, then once in each; late while a
    /// request is answered, and never to catch up. Nothing without it.
    std::function<void()> tick{};
    Duration tick_period = std::chrono::seconds(1);
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
