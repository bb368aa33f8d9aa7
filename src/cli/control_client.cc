#include "cli/control_client.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "config/command_line.h"
#include "config/control_socket.h"
#include "net/fd.h"

namespace detour::cli {
namespace {

/// Whoever answers is ours; still, nobody makes us hold more.
constexpr std::size_t kAnswerMax = std::size_t{64} << 20;

std::string cannot_connect(const std::string& socket, int error) {
  if (error == ENOENT)
    return fmt::format(
        "{}: there is no such socket; start the relay, or name its --control-socket with --socket",
        socket);
  if (error == ECONNREFUSED)
    return fmt::format("{}: no relay listens there any more; start it again", socket);
  if (error == EACCES || error == EPERM) {
    struct stat status{};
    const std::string owner = ::stat(socket.c_str(), &status) == 0
                                  ? fmt::format("user {}", status.st_uid)
                                  : std::string("another user");
    return fmt::format("{}: the relay belongs to {}; ask as that user or as root (sudo)", socket,
                       owner);
  }
  return fmt::format("{}: {}; is it a relay's control socket?", socket, std::strerror(error));
}

std::expected<ControlAnswer, std::string> parse_answer(const std::string& socket,
                                                       const std::string& text) {
  constexpr std::string_view kVersion = "HTTP/1.";
  const std::size_t space = text.find(' ');
  const std::size_t body = text.find("\r\n\r\n");
  ControlAnswer answer;
  if (!text.starts_with(kVersion) || space == std::string::npos || body == std::string::npos ||
      std::from_chars(text.data() + space + 1, text.data() + text.size(), answer.status).ec !=
          std::errc())
    return std::unexpected(
        fmt::format("{}: what answers there is no relay; name the relay's --control-socket with "
                    "--socket",
                    socket));
  answer.body = text.substr(body + 4);
  return answer;
}

}  // namespace

std::expected<std::string, std::string> find_control_socket(const std::string& given) {
  if (!given.empty()) return given;
  const auto candidates = config::control_socket_candidates(config::Environment::of_this_process());
  for (const auto& candidate : candidates) {
    struct stat status{};
    if (::stat(candidate.c_str(), &status) == 0 || errno == EACCES) return candidate;
  }
  return std::unexpected(fmt::format(
      "no relay runs here: there is no socket at {}; start one with `detour serve`, or name its "
      "--control-socket with --socket",
      fmt::join(candidates, " or ")));
}

std::expected<ControlAnswer, std::string> ask_relay(const std::string& socket,
                                                    std::string_view method,
                                                    std::string_view target, std::string_view body,
                                                    std::chrono::milliseconds timeout) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket.size() >= sizeof address.sun_path)
    return std::unexpected(fmt::format("{}: a socket's path has at most {} bytes", socket,
                                       sizeof address.sun_path - 1));
  std::ranges::copy(socket, address.sun_path);
  const net::UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return std::unexpected(std::string(std::strerror(errno)));
  const timeval wait{.tv_sec = timeout.count() / 1000, .tv_usec = timeout.count() % 1000 * 1000};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
  ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return std::unexpected(cannot_connect(socket, errno));
  std::string request =
      fmt::format("{} {} HTTP/1.1\r\nHost: detour\r\nConnection: close\r\n", method, target);
  if (!body.empty()) request += fmt::format("Content-Length: {}\r\n", body.size());
  request += "\r\n";
  request += body;
  std::string answer;
  std::array<char, 65536> buffer{};
  ssize_t count = 1;
  for (std::string_view rest = request; count > 0 && !rest.empty();) {
    count = ::send(fd.get(), rest.data(), rest.size(), MSG_NOSIGNAL);
    if (count > 0) rest.remove_prefix(static_cast<std::size_t>(count));
  }
  while (count > 0 && answer.size() < kAnswerMax) {
    count = ::recv(fd.get(), buffer.data(), buffer.size(), 0);
    if (count > 0) answer.append(buffer.data(), static_cast<std::size_t>(count));
  }
  if (count < 0)
    return std::unexpected(fmt::format(
        "{}: the relay does not answer: {}; look at its log and at /healthz of --metrics-listen",
        socket, std::strerror(errno)));
  return parse_answer(socket, answer);
}

}  // namespace detour::cli
