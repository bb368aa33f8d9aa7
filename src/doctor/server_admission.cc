#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>

#include "admission/allow_list.h"
#include "admission/curl_inquirer.h"
#include "base/files.h"
#include "crypto/keys.h"
#include "doctor/dns.h"
#include "doctor/judge_certificate.h"
#include "doctor/server_checker.h"
#include "doctor/target.h"
#include "doctor/wire.h"

namespace detour::doctor {

namespace {

/// Asked whether the relay would let it in: a key that nobody has.
constexpr Duration kSourceTimeout = std::chrono::seconds(5);

/// `http://host:port/path` of a verify URL.
struct Url {
  Target target;
  std::string path;
};
std::optional<Url> parse_url(std::string_view text) {
  const auto scheme = text.find("://");
  if (scheme == std::string_view::npos) return std::nullopt;
  const auto slash = std::min(text.find('/', scheme + 3), text.size());
  auto target = parse_target(text.substr(0, slash));
  if (!target) return std::nullopt;
  const auto path = text.substr(slash);
  return Url{.target = std::move(*target), .path = path.empty() ? "/" : std::string(path)};
}

}  // namespace

void ServerChecker::check_admission() {
  const auto& c = config();
  if (c.verify_clients) {
    auto sockets = c.tailscaled_sockets;
    if (sockets.empty()) sockets.push_back(admission::default_tailscaled_socket());
    for (const auto& path : sockets) check_socket(path);
  }
  for (const auto& url : c.verify_urls) check_verify_url(url);
  if (!c.allow_file.empty()) check_allow_file();
  const bool open = !c.verify_clients && c.verify_urls.empty() && c.allow_file.empty();
  if (open) {
    add(found_.process ? State::kInfo : State::kWarn, "D21", "open",
        "anyone who finds this relay can use it",
        "Admit your own nodes only: --allow-file, --verify-clients or --verify-client-url.");
  } else if (c.verify_fail_open && !c.verify_urls.empty()) {
    add(State::kWarn, "D21", "fail-open", "when no verify URL answers, everybody is let in",
        "--verify-client-url-fail-open=false refuses strangers then.");
  } else {
    add(State::kPass, "D21", "", "only admitted nodes can use this relay");
  }
}

void ServerChecker::check_socket(const std::string& path) {
  auto problem = socket_problem(path);
  if (problem.fault.empty())
    add(State::kPass, "D20", "", fmt::format("tailscaled answers at {}", path));
  else
    report_.add(std::move(problem));
}

Finding ServerChecker::socket_problem(const std::string& path) {
  const auto problem = [](std::string_view fault, std::string cause, std::string fix) {
    return Finding{.state = State::kFail,
                   .code = "D20",
                   .fault = fault,
                   .cause = std::move(cause),
                   .fix = std::move(fix)};
  };
  constexpr std::string_view kMount =
      "Start tailscaled on this machine. In a container mount the folder, not the socket: -v "
      "/var/run/tailscale:/var/run/tailscale (a socket that is mounted itself dies with every "
      "restart of tailscaled).";
  if (!exists(path))
    return problem("no-socket", fmt::format("tailscaled's socket {} is not there", path),
                   std::string(kMount));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return problem("no-socket", fmt::format("the path {} is too long for a socket", path),
                   "Use a path of fewer than 108 characters.");
  std::memcpy(address.sun_path, path.data(), path.size());
  const net::UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    if (errno == EACCES || errno == EPERM)
      return problem("denied",
                     fmt::format("{} may not be opened by {}", path, user_text(geteuid())),
                     "Let the relay's user be root or in the group of the socket.");
    return problem("dead-socket",
                   fmt::format("nobody listens at {} any more ({}): the file is a left-over, or a "
                               "stale mount",
                               path, std::strerror(errno)),
                   std::string(kMount));
  }
  const timeval limit{.tv_sec = 3, .tv_usec = 0};
  (void)setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  constexpr std::string_view kRequest =
      "GET /localapi/v0/status?peers=false HTTP/1.1\r\nHost: local-tailscaled.sock\r\n"
      "Connection: close\r\n\r\n";
  (void)send(fd.get(), kRequest.data(), kRequest.size(), MSG_NOSIGNAL);
  std::string received;
  std::array<char, 4096> buffer;
  ssize_t size = 0;
  while (received.size() < kAnswerHeadMax && received.find("\r\n\r\n") == std::string::npos &&
         (size = recv(fd.get(), buffer.data(), buffer.size(), 0)) > 0)
    received.append(buffer.data(), static_cast<std::size_t>(size));
  const auto answer = parse_answer_head(received);
  if (answer && answer->status == 200) return {};
  return problem("strange-socket",
                 fmt::format("what listens at {} is no tailscaled that answers (status {})", path,
                             answer ? answer->status : 0),
                 "Restart tailscaled, and compare its version: tailscale version --daemon");
}

void ServerChecker::check_verify_url(const std::string& text) {
  const auto fail = [this, &text](std::string_view fault, std::string cause, std::string fix) {
    add(State::kFail, "D20", fault, fmt::format("the verify URL {} {}", text, cause),
        std::move(fix));
  };
  const auto url = parse_url(text);
  if (!url) return fail("url", "is no URL", "Write http://HOST:PORT/PATH or https://HOST/PATH.");
  report_.doing(fmt::format("asking {}", text));
  auto addresses = url->target.host_is_ip() ? std::vector<std::string>{url->target.host}
                                            : ask_system(url->target.host).addresses;
  const TimePoint start = Clock::now();
  Wire wire;
  int error = EHOSTUNREACH;
  for (const auto& ip : addresses) {
    const auto address = net::SocketAddress::parse(ip, url->target.port);
    if (address) error = wire.connect(*address, kSourceTimeout).error;
    if (error == 0) break;
  }
  if (error != 0)
    return fail("url-unreachable",
                fmt::format("cannot be reached: {}",
                            addresses.empty() ? "its name has no address" : std::strerror(error)),
                "Start what answers there. Headscale: https://HEADSCALE/verify.");
  if (url->target.use_tls) {
    const auto tls =
        wire.handshake({.server_name = url->target.server_name(), .timeout = kSourceTimeout});
    if (tls.end != TlsAnswer::End::kDone)
      return fail("url-tls", fmt::format("fails at the TLS handshake: {}", tls.reason),
                  "Compare scheme and port.");
    for (const auto& finding :
         judge_certificate({.sent = tls.certificates,
                            .has_meta = true,
                            .name = url->target.host,
                            .authorities_file = service_variable("SSL_CERT_FILE")})) {
      if (finding.state == State::kFail)
        return fail("url-tls", fmt::format("has a bad certificate: {}", finding.cause),
                    "Mend the certificate there; the relay refuses it as clients do.");
    }
  }
  const std::string body =
      nlohmann::json{{"NodePublic", crypto::NodePrivate::generate().public_key().typed()},
                     {"Source", "192.0.2.1"}}
          .dump();
  std::string authorization;
  if (!config().verify_url_auth_file.empty()) {
    if (const auto content = read_file(config().verify_url_auth_file, kConfigurationFileMax))
      authorization = fmt::format("Authorization: {}\r\n", first_line(*content));
  }
  const auto answer =
      wire.ask(fmt::format("POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n"
                           "Content-Length: {}\r\n{}Connection: close\r\n\r\n{}",
                           url->path, url->target.host_header(), body.size(), authorization, body),
               kSourceTimeout);
  if (!answer)
    return fail("url-silent", "gives no answer within 5 s, and the relay waits no longer",
                "Make it faster, or mend it.");
  if (answer->status != 200)
    return fail("url-status", fmt::format("answers with {}", answer->status),
                answer->status == 401 || answer->status == 403
                    ? "It wants an Authorization header: --verify-client-url-auth-file."
                    : "Compare the path. Headscale: /verify.");
  const auto json = nlohmann::json::parse(answer->body, nullptr, false);
  if (!json.is_object() || !json.contains("Allow") || !json["Allow"].is_boolean())
    return fail("url-shape", "answers something else than {\"Allow\": true} or false",
                "Compare the path. Headscale: /verify.");
  const auto time = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - start);
  if (json["Allow"].get<bool>())
    add(State::kWarn, "D20", "url-admits-anyone",
        fmt::format("the verify URL {} lets a key in that it cannot know", text),
        "It admits everybody: mend its rule.");
  else
    add(State::kPass, "D20", "",
        fmt::format("the verify URL {} refuses a strange key, in {} ms", text, time.count()));
}

void ServerChecker::check_allow_file() {
  const auto content = read_file(config().allow_file, admission::kAllowFileSizeMax);
  if (!content) return;  // D05 tells.
  const auto list = admission::AllowList::parse(config().allow_file, *content);
  if (!list)
    add(State::kFail, "D20", "allow-file", first_line(list.error()), rest_of(list.error()));
  else if (list->size() == 0)
    add(State::kWarn, "D20", "allow-file-empty",
        fmt::format("{} has no key: nobody is let in", config().allow_file),
        "Add the keys of your nodes: `tailscale status --json` shows them as PublicKey.");
  else
    add(State::kPass, "D20", "", fmt::format("the allow file has {} keys", list->size()));
}

}  // namespace detour::doctor
