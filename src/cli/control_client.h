#pragma once

#include <chrono>
#include <expected>
#include <string>
#include <string_view>

namespace detour::cli {

/// What a relay answered on its control socket.
struct ControlAnswer {
  unsigned status = 0;
  std::string body;
};

/// Where to ask: `given` if it is not empty, or else the first place of this machine where there is
/// a socket. The text says what was looked for, and what to do.
[[nodiscard]] std::expected<std::string, std::string> find_control_socket(const std::string& given);

/// Asks the relay behind `socket`, with `body` if that is not empty. The text names the cause and
/// what mends it.
[[nodiscard]] std::expected<ControlAnswer, std::string> ask_relay(
    const std::string& socket, std::string_view method, std::string_view target,
    std::string_view body = {}, std::chrono::milliseconds timeout = std::chrono::seconds(15));

}  // namespace detour::cli
