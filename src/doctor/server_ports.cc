#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <string_view>

#include "doctor/server_checker.h"

namespace detour::doctor {

void ServerChecker::check_ports() {
  const auto& c = config();
  listens_ = check_port(Protocol::kTcp, "DERP", c.listen.host, c.listen.port);
  if (c.tls && c.http_port)
    answers_http_ = check_port(Protocol::kTcp, "HTTP", c.listen.host, *c.http_port);
  if (c.stun) answers_stun_ = check_port(Protocol::kUdp, "STUN", c.listen.host, c.stun_port);
  if (c.metrics_listen)
    (void)check_port(Protocol::kTcp, "metrics", c.metrics_listen->host, c.metrics_listen->port);
}

bool ServerChecker::check_port(Protocol protocol, std::string_view what, const std::string& host,
                               std::uint16_t port) {
  if (port == 0) return false;  // The kernel chooses.
  const auto name =
      fmt::format("{} port {} ({})", protocol == Protocol::kTcp ? "TCP" : "UDP", port, what);
  const auto state = look_at_port(protocol, host, port, check_.roots);
  return found_.process ? judge_port_of_relay(name, state)
                        : judge_port_before_start(name, state, host);
}

bool ServerChecker::judge_port_of_relay(const std::string& name, const PortState& state) {
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

void ServerChecker::port_taken(const std::string& name, const PortState& state) {
  const bool known = state.holder_pid != 0;
  add(State::kFail, "D03", "taken",
      known ? fmt::format("{} is held by {} (pid {})", name, state.holder, state.holder_pid)
            : fmt::format("{} is held by another program", name),
      fmt::format("Stop that program{}, or use another port and tell it in the map. To share 443 "
                  "let it pass TCP through by server name (nginx stream with ssl_preread).",
                  known ? "" : " (ss -ltnup as root shows which)"));
}

bool ServerChecker::judge_port_before_start(const std::string& name, const PortState& state,
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
          fmt::format("{} cannot be bound: {}", name, std::strerror(state.error)),
          "Listen on an address of a kind that this machine has; :PORT takes all of them.");
      break;
  }
  return state.end == PortState::End::kFree;
}

}  // namespace detour::doctor
