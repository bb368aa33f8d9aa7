#include "doctor/check_server.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <openssl/x509.h>
#include <unistd.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "client/client.h"
#include "config/address.h"
#include "doctor/dns.h"
#include "doctor/judge_certificate.h"
#include "doctor/server_checker.h"
#include "doctor/target.h"
#include "doctor/wire.h"

namespace detour::doctor {

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

void ServerChecker::run() {
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

uid_t ServerChecker::service_user() const {
  if (check_.user) return *check_.user;
  return found_.process ? found_.process->uid : geteuid();
}

void ServerChecker::add(State state, std::string_view code, std::string_view fault,
                        std::string cause, std::string fix) {
  report_.add(state, code, fault, std::move(cause), std::move(fix));
}

bool ServerChecker::check_configuration() {
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
  for (const auto& warning : found_.parsed->warnings) add(State::kWarn, "D01", "warning", warning);
  if (found_.parsed->warnings.empty()) add(State::kPass, "D01", "", "the settings are understood");
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

void ServerChecker::check_names() {
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

void ServerChecker::check_map() {
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

void ServerChecker::check_running_relay() {
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
  // Without the file it is not known which pin the map has.
  if (disk_.empty() && serves_manual_certificate(c) && config::is_ip(c.hostname))
    target.insecure = true;
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

void ServerChecker::check_reloaded(const Target& target, const std::string& ip) {
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
