#include "doctor/check_server.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>
#include <openssl/x509.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <string_view>
#include <utility>

#include "acme/certificate.h"
#include "acme/openssl.h"
#include "acme/pem.h"
#include "admission/allow_list.h"
#include "admission/curl_inquirer.h"
#include "base/bytes.h"
#include "base/files.h"
#include "client/client.h"
#include "config/address.h"
#include "crypto/keys.h"
#include "doctor/dns.h"
#include "doctor/judge_certificate.h"
#include "doctor/target.h"
#include "doctor/wire.h"

namespace detour::doctor {
namespace {

constexpr std::size_t kFileMax = 4 * 1024 * 1024;
/// Asked whether the relay would let it in: a key that nobody has.
constexpr Duration kSourceTimeout = std::chrono::seconds(5);

std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

std::string rest_of(const std::string& text) {
  const auto end = text.find('\n');
  if (end == std::string::npos) return {};
  auto rest = text.substr(end + 1);
  while (!rest.empty() && rest.back() == '\n') rest.pop_back();
  return rest;
}

/// The two files of the manual mode.
struct CertificateFiles {
  std::string certificate;
  std::string key;
};
CertificateFiles certificate_files(const config::Config& config) {
  if (!config.cert_file.empty())
    return {config.cert_file,
            config.cert_key_file.empty() ? config.cert_file : config.cert_key_file};
  const auto stem = config.cert_dir + "/" + acme::certificate_file_stem(config.hostname);
  return {stem + ".crt", stem + ".key"};
}

/// The certificates of a PEM file; empty when it cannot be read.
std::vector<acme::CertificatePtr> read_certificates(const std::string& path) {
  const auto text = read_file(path, kFileMax);
  if (!text) return {};
  auto content = acme::parse_pem(path, *text);
  if (!content) return {};
  return std::move(content->certificates);
}

bool is_self_signed(X509* certificate) {
  return X509_NAME_cmp(X509_get_subject_name(certificate), X509_get_issuer_name(certificate)) == 0;
}

bool serves_manual_certificate(const config::Config& config) {
  return config.tls && config.cert_mode == config::CertMode::kManual;
}

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

class ServerChecker {
 public:
  ServerChecker(const ServerCheck& check, const ServerConfiguration& found, Report& report)
      : check_(check), found_(found), report_(report) {}

  void run() {
    report_.begin_section(
        found_.process ? fmt::format("this machine, and the relay that runs on it as process {}",
                                     found_.process->pid)
                       : "this machine; no relay runs on it");
    for (auto& finding : judge_machine(found_.process ? found_.process->pid : 0, check_.roots))
      report_.add(std::move(finding));
    if (!check_configuration()) {
      report_.leave_out({"D03", "D05", "D06", "D12", "D20"});
      return;
    }
    check_ports();
    check_files();
    check_names();
    check_map();
    check_admission();
    check_mesh();
    check_proxies();
    check_neighbour();
    check_running_relay();
  }

 private:
  const config::Config& config() const { return found_.parsed->config; }
  uid_t service_user() const {
    if (check_.user) return *check_.user;
    return found_.process ? found_.process->uid : geteuid();
  }
  void add(State state, std::string_view code, std::string_view fault, std::string cause,
           std::string fix = {}) {
    report_.add(state, code, fault, std::move(cause), std::move(fix));
  }

  bool check_configuration() {
    if (found_.process && !found_.process->environment)
      add(State::kWarn, "D02", "no-environment",
          fmt::format("the environment of process {} may not be read, so settings may be missing",
                      found_.process->pid),
          "Run the doctor as root or as the user of the service.");
    if (!found_.parsed) {
      const auto& text = found_.parsed.error().err;
      add(State::kFail, "D01", "refused", first_line(text), rest_of(text));
      return false;
    }
    for (const auto& notice : found_.parsed->notices) add(State::kInfo, "D01", "notice", notice);
    for (const auto& warning : found_.parsed->warnings)
      add(State::kWarn, "D01", "warning", warning);
    if (found_.parsed->warnings.empty())
      add(State::kPass, "D01", "", "the settings are understood");
    std::string list;
    for (const auto& setting : found_.parsed->settings) {
      if (setting.origin == config::Origin::kDefault) continue;
      list += fmt::format("{}{} = {} ({})", list.empty() ? "" : "\n", setting.name,
                          setting.is_secret ? "(secret)" : config::to_text(setting.value),
                          setting.source);
    }
    add(State::kInfo, "D02", "sources",
        list.empty() ? "all settings are at their defaults" : "what is set, and where", list);
    return true;
  }

  // --- D03
  // ----------------------------------------------------------------------------------------

  void check_ports() {
    const auto& c = config();
    listens_ = check_port(Protocol::kTcp, "DERP", c.listen.host, c.listen.port);
    if (c.tls && c.http_port)
      answers_http_ = check_port(Protocol::kTcp, "HTTP", c.listen.host, *c.http_port);
    if (c.stun) answers_stun_ = check_port(Protocol::kUdp, "STUN", c.listen.host, c.stun_port);
    if (c.metrics_listen)
      (void)check_port(Protocol::kTcp, "metrics", c.metrics_listen->host, c.metrics_listen->port);
  }

  /// Whether the relay has it, as far as one can see.
  bool check_port(Protocol protocol, std::string_view what, const std::string& host,
                  std::uint16_t port) {
    if (port == 0) return false;  // The kernel chooses.
    const auto name =
        fmt::format("{} port {} ({})", protocol == Protocol::kTcp ? "TCP" : "UDP", port, what);
    const auto state = look_at_port(protocol, host, port, check_.roots);
    return found_.process ? judge_port_of_relay(name, state)
                          : judge_port_before_start(name, state, host);
  }

  bool judge_port_of_relay(const std::string& name, const PortState& state) {
    const bool taken = state.end == PortState::End::kTaken;
    if (taken && state.holder_pid == found_.process->pid) {
      add(State::kPass, "D03", "", "the relay listens on " + name);
      return true;
    }
    if (state.end == PortState::End::kDenied || (taken && state.holder_pid == 0)) {
      add(State::kInfo, "D03", "holder-unknown",
          fmt::format("whether the relay listens on {} only root may see", name));
      return true;
    }
    if (taken) {
      port_taken(name, state);
    } else {
      add(State::kFail, "D03", "not-listening",
          fmt::format("the relay runs and does not listen on {}", name),
          "Look at the relay's log: it says why it could not bind.");
    }
    return false;
  }

  void port_taken(const std::string& name, const PortState& state) {
    const bool known = state.holder_pid != 0;
    add(State::kFail, "D03", "taken",
        known ? fmt::format("{} is held by {} (pid {})", name, state.holder, state.holder_pid)
              : fmt::format("{} is held by another program", name),
        fmt::format("Stop that program{}, or use another port and tell it in the map. To share 443 "
                    "let it pass TCP through by server name (nginx stream with ssl_preread).",
                    known ? "" : " (ss -ltnup as root shows which)"));
  }

  bool judge_port_before_start(const std::string& name, const PortState& state,
                               const std::string& host) {
    switch (state.end) {
      case PortState::End::kFree:
        add(State::kPass, "D03", "", name + " is free");
        break;
      case PortState::End::kTaken:
        port_taken(name, state);
        break;
      case PortState::End::kDenied:
        add(State::kFail, "D03", "privileged",
            fmt::format("{} needs a privilege that this user has not", name),
            "In the unit: AmbientCapabilities=CAP_NET_BIND_SERVICE; for a binary: setcap "
            "cap_net_bind_service=+ep detour; or a port from 1024 on.");
        break;
      case PortState::End::kNoSuchAddress:
        add(State::kFail, "D03", "no-such-address",
            fmt::format("{} is no address of this machine, so {} cannot be bound", host, name),
            "Behind NAT listen on all addresses (:PORT), and name the outer address in --hostname "
            "and in the map.");
        break;
      case PortState::End::kFailed:
        add(State::kFail, "D03", "bind",
            fmt::format("{} cannot be bound: {}", name, std::strerror(state.error)));
        break;
    }
    return state.end == PortState::End::kFree;
  }

  // --- D05, and D06 to D08 from disk ---

  void check_files() {
    std::vector<std::pair<std::string_view, std::string>> files = {
        {"mesh key", config().mesh_key_file},
        {"allow file", config().allow_file},
        {"file of rate limits", config().rate_config_file},
        {"Authorization header", config().verify_url_auth_file},
        {"token of the DERP map", config().serve_map_token_file},
        {"metrics token", config().metrics_token_file}};
    if (exists(config().key_file)) {
      files.emplace_back("relay's key", config().key_file);
      check_secret(config().key_file);
    }
    if (serves_manual_certificate(config())) {
      const auto [certificate, key] = certificate_files(config());
      if (config().cert_file.empty() && config::is_ip(config().hostname) && !exists(certificate) &&
          !exists(key)) {
        add(State::kInfo, "D05", "will-be-made", certificate + " will be made at the first start");
      } else {
        files.emplace_back("certificate", certificate);
        if (key != certificate) files.emplace_back("certificate's key", key);
        check_secret(key);
      }
    }
    // One folder that cannot be entered is one fault.
    std::map<std::string, std::vector<std::string_view>> faults;
    for (const auto& [what, path] : files) {
      if (path.empty()) continue;
      if (auto why = why_unreadable(path, service_user()); !why.empty())
        faults[std::move(why)].push_back(what);
    }
    for (const auto& [why, what] : faults)
      add(State::kFail, "D05", "unreadable",
          fmt::format("the {} cannot be read: {}", fmt::join(what, " and the "), why),
          fmt::format("chown, chgrp or chmod so that {} can read it and enter every folder above "
                      "it; in a container mount the folder, not the file.",
                      user_text(service_user())));
    const bool all_readable = faults.empty();
    if (all_readable)
      add(State::kPass, "D05", "",
          fmt::format("{} can read every file it needs", user_text(service_user())));
    if (all_readable && serves_manual_certificate(config())) check_certificate();
  }

  void check_secret(const std::string& path) {
    struct stat status{};
    if (stat(path.c_str(), &status) != 0 || (status.st_mode & 07) == 0) return;
    add(State::kWarn, "D05", "secret-open",
        fmt::format("every user of this machine can read {}, which is secret", path),
        "chmod 600 " + path);
  }

  void check_certificate() {
    const auto [certificate_file, key_file] = certificate_files(config());
    if (!exists(certificate_file)) return;
    disk_ = read_certificates(certificate_file);
    const auto key_text = read_file(key_file, kFileMax);
    if (disk_.empty() || !key_text) {
      add(State::kFail, "D05", "no-certificate",
          fmt::format("there is no certificate in {}", certificate_file),
          "Put the full chain there, in PEM form (-----BEGIN CERTIFICATE-----).");
      return;
    }
    const auto keys = acme::parse_pem(key_file, *key_text);
    const bool matches = keys && std::ranges::any_of(keys->keys, [this](const auto& key) {
                           return X509_check_private_key(disk_.front().get(), key.get()) == 1;
                         });
    if (!matches) {
      add(State::kFail, "D05", "key-mismatch",
          fmt::format("the key in {} does not belong to the certificate in {}", key_file,
                      certificate_file),
          "Install both from the same renewal: acme.sh --install-cert with --key-file and "
          "--fullchain-file.");
      disk_.clear();
      return;
    }
    // What runs is judged by what it serves.
    if (found_.process) return;
    const bool pinned = is_self_signed(disk_.front().get()) && config::is_ip(config().hostname);
    CertificateCase served{.sent = disk_,
                           .has_meta = true,
                           .name = config().hostname,
                           .sends_sni = !config::is_ip(config().hostname),
                           .insecure = config().allow_incomplete_chain};
    if (pinned) served.pin = client::parse_pin(pin_of(disk_.front().get()));
    served.authorities_file = service_variable("SSL_CERT_FILE");
    for (auto& finding : judge_certificate(served)) report_.add(std::move(finding));
  }

  std::string service_variable(std::string_view name) const {
    if (found_.process && found_.process->environment) {
      const auto at = found_.process->environment->find(name);
      return at == found_.process->environment->end() ? std::string() : at->second;
    }
    const char* value = getenv(std::string(name).c_str());
    return value == nullptr ? std::string() : value;
  }

  // --- D12, D25, D30
  // ------------------------------------------------------------------------------

  void check_names() {
    const auto& name = config().hostname;
    if (name.empty()) return;
    const auto own = own_addresses();
    std::vector<std::string> addresses = {name};
    if (!config::is_ip(name)) {
      report_.doing("looking the host name up");
      const auto answer =
          check_.probe.resolvers.empty()
              ? ask_system(name)
              : ask_resolver(check_.probe.resolvers.front(), name, std::chrono::seconds(2));
      if (answer.end != DnsAnswer::End::kAnswered || answer.addresses.empty()) {
        add(State::kFail, "D12", "no-address",
            fmt::format("the host name {} has no address (says {})", name, answer.resolver),
            "Add an A record for it at your DNS provider, and an AAAA record if the relay has "
            "IPv6.");
        return;
      }
      addresses = answer.addresses;
    }
    const auto is_own = [&own](const std::string& address) {
      return kind_of(address) == AddressKind::kLoopback ||
             std::ranges::find(own, address) != own.end();
    };
    const bool has_public = std::ranges::any_of(own, [](const auto& address) {
      return kind_of(address) == AddressKind::kPublic && address.find(':') == std::string::npos;
    });
    if (std::ranges::any_of(addresses, is_own)) {
      add(State::kPass, "D12", "", fmt::format("{} is this machine", name));
    } else if (has_public) {
      add(State::kWarn, "D12", "not-this-machine",
          fmt::format("{} is {}, and this machine has {}", name, fmt::join(addresses, ", "),
                      fmt::join(own, ", ")),
          "Correct the record (a stale DDNS entry?), or the host name.");
    } else {
      add(State::kInfo, "D30", "behind-nat",
          fmt::format("{} is {} and this machine has private addresses only: the router in front "
                      "must pass TCP {} and UDP {} on, and the map has the ports outside",
                      name, fmt::join(addresses, ", "), config().listen.port, config().stun_port));
    }
  }

  void check_map() {
    if (!check_.map) return;
    for (const auto& node : targets_of(*check_.map, std::nullopt)) {
      if (node.host != config().hostname) continue;
      if (node.port != config().listen.port)
        add(State::kInfo, "D30", "other-port",
            fmt::format("the map says port {}, the relay listens on {}: right only when a NAT or "
                        "proxy translates it",
                        node.port, config().listen.port));
      if (node.stun_port && config().stun && *node.stun_port != config().stun_port)
        add(State::kInfo, "D30", "other-stun-port",
            fmt::format("the map says STUN port {}, the relay listens on {}: right only when a NAT "
                        "translates it",
                        *node.stun_port, config().stun_port));
      if (node.stun_port && !config().stun)
        add(State::kFail, "D22", "off", "the map says STUN, and the relay has it switched off",
            "Write \"STUNPort\": -1 into the map, or start the relay with STUN.");
      return;
    }
    add(State::kFail, "D25", "not-in-map",
        fmt::format("the map has no node for {}", config().hostname),
        "Paste the node that detour map prints.");
  }

  // --- D20, D21, D29, D31, D28
  // --------------------------------------------------------------------

  void check_admission() {
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

  void check_socket(const std::string& path) {
    auto problem = socket_problem(path);
    if (problem.fault.empty())
      add(State::kPass, "D20", "", fmt::format("tailscaled answers at {}", path));
    else
      report_.add(std::move(problem));
  }

  Finding socket_problem(const std::string& path) {
    const auto problem = [&path](std::string_view fault, std::string cause, std::string fix) {
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
      return problem(
          "dead-socket",
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

  void check_verify_url(const std::string& text) {
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
      if (const auto content = read_file(config().verify_url_auth_file, kFileMax))
        authorization = fmt::format("Authorization: {}\r\n", first_line(*content));
    }
    const auto answer = wire.ask(
        fmt::format("POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n"
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

  void check_allow_file() {
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

  void check_mesh() {
    const auto& c = config();
    if (c.mesh_with.empty()) return;
    std::string hex = c.mesh_key;
    if (hex.empty() && !c.mesh_key_file.empty()) {
      const auto content = read_file(c.mesh_key_file, kFileMax);
      if (!content) return;  // D05 tells.
      hex = *content;
      std::erase_if(hex,
                    [](char ch) { return ch == '\n' || ch == '\r' || ch == ' ' || ch == '\t'; });
    }
    const auto key = crypto::MeshKey::parse(hex);
    if (!key) {
      add(State::kFail, "D29", "mesh-key",
          hex.empty() ? "the relay is to mesh with others and has no mesh key"
                      : "the mesh key is not 64 hex digits",
          "openssl rand -hex 32 > /etc/derp-mesh.key, the same file on every relay of the region, "
          "and --mesh-psk-file with it.");
      return;
    }
    for (const auto& peer : c.mesh_with) check_mesh_peer(peer, *key);
  }

  void check_mesh_peer(const config::MeshPeer& peer, const crypto::MeshKey& key) {
    const auto target = parse_target("https://" + peer.host);
    if (!target) {
      add(State::kFail, "D29", "mesh-peer", target.error());
      return;
    }
    report_.doing(fmt::format("asking the mesh peer {}", peer.host));
    client::DialOptions dial{.host = target->host, .port = target->port};
    dial.address = peer.dial_host;
    dial.tls.trust.authorities_file = service_variable("SSL_CERT_FILE");
    dial.key = crypto::NodePrivate::generate();
    dial.fast_start = false;
    dial.timeout = check_.probe.timeout;
    dial.info.mesh_key = key;
    const auto client = client::Client::dial(dial);
    if (!client) {
      add(State::kFail, "D29", "peer-unreachable",
          fmt::format("the mesh peer {} cannot be used: {}", peer.host, client.error().text()),
          fmt::format("Ask the doctor about it: detour doctor https://{}", peer.host));
      return;
    }
    // Only who knows its mesh key may watch; others are cut off.
    derp::FrameHeader header{.type = derp::FrameType::kWatchConns, .payload_size = 0};
    std::array<std::uint8_t, derp::kFrameHeaderSize> frame{};
    derp::write_frame_header(frame, header);
    const bool refused =
        !(*client)->send_raw(frame, check_.probe.timeout) || !(*client)->ping(check_.probe.timeout);
    if (refused)
      add(State::kFail, "D29", "key-refused",
          fmt::format("the mesh peer {} rejects our mesh key", peer.host),
          "The same --mesh-psk-file on every relay of the region, and a restart of each.");
    else
      add(State::kPass, "D29", "", fmt::format("the mesh peer {} takes our mesh key", peer.host));
  }

  void check_proxies() {
    std::vector<std::string> set;
    for (const std::string_view name :
         {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"}) {
      if (const auto value = service_variable(name); !value.empty())
        set.push_back(fmt::format("{}={}", name, value));
    }
    if (set.empty()) return;
    const bool matters =
        !config().verify_urls.empty() || config().cert_mode != config::CertMode::kManual;
    add(matters ? State::kWarn : State::kInfo, "D31", "proxy",
        fmt::format("the service's environment has {}: {}", fmt::join(set, ", "),
                    matters ? "verify URLs and ACME may go through it"
                            : "nothing that is configured uses it"),
        "Take it out of the unit (UnsetEnvironment=HTTP_PROXY HTTPS_PROXY), or set NO_PROXY for "
        "those hosts.");
  }

  void check_neighbour() {
    const bool runs = exists(admission::default_tailscaled_socket()) ||
                      std::ranges::any_of(config().tailscaled_sockets,
                                          [](const auto& path) { return exists(path); });
    if (!runs) return;
    add(State::kInfo, "D28", "neighbour",
        "a Tailscale node runs on this machine: when this relay is its home, both go down "
        "together, and its own traffic does not show whether others reach the relay");
  }

  // --- The relay that runs
  // ------------------------------------------------------------------------

  void check_running_relay() {
    const auto& c = config();
    if (!found_.process || !listens_) return;
    Target target;
    const bool named = !c.hostname.empty();
    target.host = named ? c.hostname : "127.0.0.1";
    target.port = c.listen.port;
    target.use_tls = c.tls;
    const std::string address = c.listen.host.empty() ? "127.0.0.1" : c.listen.host;
    const bool is_v6 = address.find(':') != std::string::npos;
    target.ipv4 = is_v6 ? "none" : address;
    target.ipv6 = is_v6 ? address : "none";
    if (c.stun && answers_stun_)
      target.stun_port = c.stun_port;
    else
      target.stun_port = std::nullopt;
    if (c.tls && c.http_port && answers_http_) target.http_port = c.http_port;
    target.relays = c.derp;
    target.authorities_file = service_variable("SSL_CERT_FILE");
    target.insecure = c.allow_incomplete_chain;
    if (!disk_.empty() && is_self_signed(disk_.front().get()))
      target.pin = client::parse_pin(pin_of(disk_.front().get()));
    check_reloaded(target, address);
    if (served_other_) {
      // The pin of the file would be missed once more.
      target.pin = std::nullopt;
      target.insecure = true;
    }
    report_.begin_section(fmt::format("the running relay at {}:{}", address, c.listen.port));
    auto options = check_.probe;
    options.skip_dns = true;
    probe_relay(target, options, report_);
    std::string command =
        fmt::format("detour doctor {}://{}", c.tls ? "https" : "http", target.host_header());
    if (target.pin) command += " --pin " + client::format_pin(*target.pin);
    if (!c.stun)
      command += " --stun-port off";
    else if (c.stun_port != 3478)
      command += fmt::format(" --stun-port {}", c.stun_port);
    report_.add(State::kInfo, "D13", "from-outside",
                "whether others reach it shows from another machine only", command);
  }

  /// D08: is what is served the file on disk?
  void check_reloaded(const Target& target, const std::string& ip) {
    const auto address = net::SocketAddress::parse(ip, target.port);
    if (disk_.empty() || !address) return;
    Wire wire;
    if (wire.connect(*address, check_.probe.timeout).error != 0) return;
    const auto answer =
        wire.handshake({.server_name = target.server_name(), .timeout = check_.probe.timeout});
    if (answer.certificates.empty()) return;
    if (X509_cmp(answer.certificates.front().get(), disk_.front().get()) == 0) return;
    served_other_ = true;
    add(State::kFail, "D08", "not-reloaded",
        fmt::format("the relay serves another certificate ({}) than the file has ({})",
                    pin_of(answer.certificates.front().get()), pin_of(disk_.front().get())),
        "A good new file is taken up within seconds; see the relay's log for why this one was not, "
        "or restart the relay.");
  }

  const ServerCheck& check_;
  const ServerConfiguration& found_;
  Report& report_;
  std::vector<acme::CertificatePtr> disk_;
  bool served_other_ = false;
  bool listens_ = false;
  bool answers_stun_ = false;
  bool answers_http_ = false;
};

}  // namespace

std::expected<ServerConfiguration, std::string> find_configuration(const ServerCheck& check) {
  auto relays = find_relays(check.roots);
  if (check.pid)
    std::erase_if(relays, [&check](const auto& relay) { return relay.pid != *check.pid; });
  if (check.pid && relays.empty())
    return std::unexpected(fmt::format("--pid {}: no relay runs as that process", *check.pid));
  if (check.has_args && !check.pid) relays.clear();
  if (relays.size() > 1) {
    std::vector<int> pids;
    for (const auto& relay : relays) pids.push_back(relay.pid);
    return std::unexpected(fmt::format(
        "several relays run on this machine: choose one with --pid ({})", fmt::join(pids, ", ")));
  }
  auto environment = config::Environment::of_this_process();
  if (relays.empty())
    return ServerConfiguration{
        .process = std::nullopt,
        .parsed = config::parse_serve_command_line(check.args, environment, check.program)};
  RelayProcess& relay = relays.front();
  if (relay.environment) environment.variables = *relay.environment;
  environment.is_root = relay.uid == 0;
  const auto& args = check.has_args ? check.args : relay.args;
  auto parsed = relay.as_derper && !check.has_args
                    ? config::parse_derper_command_line(args, environment, check.program)
                    : config::parse_serve_command_line(args, environment, check.program);
  return ServerConfiguration{.process = std::move(relay), .parsed = std::move(parsed)};
}

void check_server(const ServerCheck& check, const ServerConfiguration& found, Report& report) {
  ServerChecker(check, found, report).run();
}

DerpMap map_of(const config::Config& config) {
  MapNode node{.name = "900a", .region_id = 900, .hostname = config.hostname};
  if (config.listen.port != 443) node.derp_port = config.listen.port;
  if (!config.stun)
    node.stun_port = -1;
  else if (config.stun_port != 3478)
    node.stun_port = config.stun_port;
  node.can_port80 = config.tls && config.http_port == 80;
  if (config::is_ip(config.hostname))
    (config::is_ipv6(config.hostname) ? node.ipv6 : node.ipv4) = config.hostname;
  if (serves_manual_certificate(config)) {
    const auto certificates = read_certificates(certificate_files(config).certificate);
    if (!certificates.empty() && is_self_signed(certificates.front().get()))
      node.cert_name = pin_of(certificates.front().get());
  }
  DerpMap map;
  map.regions[900] = {.id = 900, .code = "detour", .name = "Detour", .nodes = {std::move(node)}};
  return map;
}

}  // namespace detour::doctor
