#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "client/failure.h"

namespace detour::bench {

/// The server under load. Loopback only: this program must not be turned on somebody else.
class Target {
 public:
  /// `127.0.0.1:443` or `[::1]:443`. Fails for anything that is not a loopback address.
  [[nodiscard]] static client::Outcome<Target> parse(std::string_view text);

  [[nodiscard]] const sockaddr* address() const {
    return reinterpret_cast<const sockaddr*>(&storage_);
  }
  [[nodiscard]] socklen_t address_size() const { return size_; }
  [[nodiscard]] int family() const { return storage_.ss_family; }
  /// Without brackets and port.
  [[nodiscard]] const std::string& host() const { return host_; }
  /// As in a Host header.
  [[nodiscard]] const std::string& host_and_port() const { return text_; }

  /// A non-blocking socket on its way to the target (stream) or connected to it (datagram); -1 and
  /// errno when that fails. The `index`th connection takes the `index`th source address, for one
  /// address has only some 28,000 ports and keeps each for a minute after use.
  [[nodiscard]] int connect(int socket_type, std::uint32_t index) const;

 private:
  Target() = default;
  sockaddr_storage storage_{};
  socklen_t size_ = 0;
  std::string host_;
  std::string text_;
};

}  // namespace detour::bench
