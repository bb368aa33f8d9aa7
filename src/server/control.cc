#include "server/control.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <optional>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "admin/doctor_findings.h"
#include "admin/query.h"
#include "admin/status.h"
#include "config/control_socket.h"
#include "server/shared.h"
#include "server/surveyor.h"
#include "server/worker.h"

namespace detour::server {
namespace {

/// One picture serves those who ask in the same moment.
constexpr Duration kPictureAge = std::chrono::milliseconds(100);
/// Keys that an ambiguous word fits are named up to this number.
constexpr std::size_t kNamedMax = 10;
constexpr std::size_t kHexDigitsMin = 4;

std::string system_error(int error) {
  return std::strerror(error);
}

/// Whether a process answers on the socket at `address`.
bool is_alive(const sockaddr_un& address) {
  const net::UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  return fd &&
         ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

/// Why the peer of a connection may not ask; nothing when it may.
std::optional<std::string> refuse_strangers(int fd) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
    return "the kernel does not say who asks";
  if (peer.uid == 0 || peer.uid == ::geteuid()) return std::nullopt;
  return fmt::format("this relay runs as user {}; user {} may not ask it", ::geteuid(), peer.uid);
}

http::Response json_response(std::string body) {
  return {.status = 200,
          .headers = {{"Content-Type", "application/json"}, {"Cache-Control", "no-store"}},
          .body = std::move(body)};
}

/// Whether `word` may mean this client: its key whole, by its first hex digits or in its short
/// form, or the name that the allow file gives it.
bool is_meant(const admin::ClientStatus& client, std::string_view word) {
  const auto& key = client.identity.key;
  if (!client.name.empty() && client.name == word) return true;
  if (word == key.short_text()) return true;
  constexpr std::string_view kPrefix = "nodekey:";
  if (word.starts_with(kPrefix)) word.remove_prefix(kPrefix.size());
  std::string lower(word);
  std::ranges::transform(lower, lower.begin(), [](char c) {
    return c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return lower.size() >= kHexDigitsMin && key.hex().starts_with(lower);
}

}  // namespace

std::expected<std::unique_ptr<Control>, std::string> Control::start(Shared& shared) {
  const auto place = config::control_socket_of(shared.config);
  if (place.path.empty()) return nullptr;
  std::unique_ptr<Control> control(new Control(shared, place.path));
  if (auto listening = control->listen(); !listening) {
    if (!place.is_default) return std::unexpected(listening.error());
    shared.log.warn(listening.error() + "; `detour status` and its like cannot reach this relay");
    return nullptr;
  }
  return control;
}

std::expected<void, std::string> Control::listen() {
  const auto failed = [this](std::string_view what, std::string_view mending) {
    return std::unexpected(fmt::format("control socket {}: {}; {}", path_, what, mending));
  };
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path_.size() >= sizeof address.sun_path)
    return failed(fmt::format("the path is longer than {} bytes, which sockets cannot have",
                              sizeof address.sun_path - 1),
                  "give a shorter one with --control-socket");
  std::ranges::copy(path_, address.sun_path);
  struct stat status{};
  if (::lstat(path_.c_str(), &status) == 0) {
    if (!S_ISSOCK(status.st_mode))
      return failed("there is a file of another kind", "remove it, or name another path");
    if (is_alive(address))
      return failed("another relay that runs has it",
                    "end that one, or give this one its own with --control-socket");
    ::unlink(path_.c_str());
  }
  net::UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return failed(system_error(errno), "try again");
  // On a socket that is not bound yet it sets the mode of the file to be, without the process's
  // umask being touched, which belongs to all threads.
  ::fchmod(fd.get(), S_IRUSR | S_IWUSR);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return failed(system_error(errno),
                  "make its folder and let the relay's user write there, or name another with "
                  "--control-socket");
  is_bound_ = true;
  constexpr int kBacklog = 16;
  if (::chmod(path_.c_str(), S_IRUSR | S_IWUSR) != 0 || ::listen(fd.get(), kBacklog) != 0)
    return failed(system_error(errno), "name another path with --control-socket");
  auto server = SideServer::start(
      {.address = {},
       .listener = std::move(fd),
       .refuse = refuse_strangers,
       .answer = [this](const SideServer::Question& question) { return answer(question); },
       .body_max = admin::DoctorFindings::kBytesMax});
  if (!server) return failed(server.error(), "try again");
  server_ = std::move(*server);
  return {};
}

Control::~Control() {
  if (is_bound_) ::unlink(path_.c_str());
}

http::Response Control::answer(const SideServer::Question& question) {
  const http::Request& request = question.request;
  if (request.path == "/status")
    return request.method == "GET" ? answer_status(request) : http::text_error(405, "only GET");
  const bool is_post = request.method == "POST";
  if (request.path == "/kick")
    return is_post ? answer_kick(request) : http::text_error(405, "only POST");
  if (request.path == "/drain")
    return is_post ? answer_drain(request) : http::text_error(405, "only POST");
  if (request.path == "/findings")
    return is_post ? answer_findings(question.body) : http::text_error(405, "only POST");
  return http::text_error(404, "there is /status, /kick, /drain and /findings");
}

http::Response Control::answer_status(const http::Request& request) {
  std::string problem;
  const auto selection = admin::parse_client_selection(request.query, problem);
  if (!selection) return http::text_error(400, problem);
  return json_response(admin::format_status_json(*shared_.surveyor->take(kPictureAge), *selection));
}

http::Response Control::answer_kick(const http::Request& request) {
  const std::string word = admin::query_value(request.query, "key").value_or("");
  const auto status = shared_.surveyor->take({});
  std::vector<const admin::ClientStatus*> meant;
  std::set<crypto::NodePublic> keys;
  for (const auto& client : status->clients) {
    if (!is_meant(client, word)) continue;
    meant.push_back(&client);
    keys.insert(client.identity.key);
  }
  if (keys.empty())
    return http::text_error(
        404, fmt::format("no client is meant by {:?}: give its node key, the first {} or more hex "
                         "digits of it, its short form like [AbCdE], or its name in the allow file",
                         word, kHexDigitsMin));
  if (keys.size() > 1) {
    std::string text = fmt::format("{:?} may mean {} clients:", word, keys.size());
    std::size_t named = 0;
    for (const auto& key : keys) {
      if (named++ == kNamedMax) break;
      text += fmt::format("\n  {}", key.typed());
    }
    if (keys.size() > kNamedMax) text += fmt::format("\nand {} more", keys.size() - kNamedMax);
    return http::text_error(409, text);
  }
  for (const auto* const client : meant)
    shared_.workers[client->worker]->post_kick(client->identity.id);
  const std::string key = keys.begin()->typed();
  shared_.log.info(fmt::format("client {} closed by the operator: {} connection{}", key,
                               meant.size(), meant.size() == 1 ? "" : "s"));
  return json_response(fmt::format("{{\"key\":\"{}\",\"connections\":{}}}\n", key, meant.size()));
}

http::Response Control::answer_drain(const http::Request& request) {
  const std::string text = admin::query_value(request.query, "over").value_or("");
  std::uint64_t over = 0;
  const char* const end = text.data() + text.size();
  const auto [parsed_to, error] = std::from_chars(text.data(), end, over);
  const auto longest = static_cast<std::uint64_t>(Drain::kLongest.count());
  if (error != std::errc() || parsed_to != end || over > longest)
    return http::text_error(
        400, fmt::format("over={}: a number of milliseconds is needed, at most {}", text, longest));
  if (!shared_.drain.begin(std::chrono::milliseconds(over)))
    return http::text_error(409, "the relay is ending already");
  return json_response(fmt::format("{{\"clients\":{}}}\n", shared_.directory.counts().connections));
}

http::Response Control::answer_findings(std::string_view body) {
  auto findings = admin::DoctorFindings::parse(body);
  if (!findings) return http::text_error(400, findings.error());
  const std::size_t count = findings->count();
  shared_.last_visit.keep(
      {.findings = std::move(*findings), .at = std::chrono::system_clock::now()});
  return json_response(fmt::format("{{\"findings\":{}}}\n", count));
}

}  // namespace detour::server
