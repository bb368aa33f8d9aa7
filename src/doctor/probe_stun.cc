#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>

#include "base/duration.h"
#include "doctor/dns.h"
#include "doctor/probe.h"

namespace detour::doctor {

namespace {

constexpr int kStunTries = 3;
constexpr Duration kStunWait = std::chrono::milliseconds(700);

}  // namespace

void Probe::check_stun() {
  if (!target_.stun_port) {
    report_.add(State::kInfo, "D22", "off",
                "no STUN there: clients measure this relay over HTTPS only when no other relay "
                "answers STUN");
    return;
  }
  for (const auto& ip : addresses_) {
    const auto address = net::SocketAddress::parse(ip, *target_.stun_port);
    if (!address) continue;
    report_.doing(fmt::format("STUN to {}", address->text()));
    judge_stun(*address, ask_stun(*address, kStunTries, kStunWait));
  }
}

void Probe::judge_stun(const net::SocketAddress& address, const StunAnswer& answer) {
  const State bad = stun_works_ ? State::kWarn : State::kFail;
  // Where nothing answers at all, that has been said.
  const State none = target_.relays && !address_ ? State::kInfo : bad;
  switch (answer.end) {
    case StunAnswer::End::kAnswered:
      judge_mapped(address, answer);
      return;
    case StunAnswer::End::kUnroutable:
      report_.add(address.family() == AF_INET6 ? State::kInfo : none, "D22", "no-route",
                  fmt::format("this machine cannot send UDP to {}", address.text()),
                  "Look at the routes and the firewall of this machine, or ask from another.");
      return;
    case StunAnswer::End::kElsewhere:
      report_.add(bad, "D22", "other-source",
                  fmt::format("{} was asked and {} answered: clients and firewalls throw that "
                              "away",
                              address.text(), answer.from),
                  "The server has several addresses or a NAT that rewrites the source: update it "
                  "(Detour and derper from 1.104 answer from the address asked), or let it listen "
                  "on one address.");
      return;
    case StunAnswer::End::kStrange:
      report_.add(
          bad, "D22", "not-stun",
          fmt::format("something else than a STUN server answers at {}", address.text()),
          "Another program has that UDP port: compare STUNPort in the map with -stun-port.");
      return;
    case StunAnswer::End::kSilent:
    case StunAnswer::End::kRefused:
      judge_no_stun(address, answer, none);
      return;
  }
}

void Probe::judge_no_stun(const net::SocketAddress& address, const StunAnswer& answer,
                          State state) {
  Wire wire;
  const bool tcp_open = wire.connect(address, kClientDialLimit).error == 0;
  const auto port = address.port();
  if (tcp_open) {
    report_.add(
        state, "D22", "tcp-only",
        fmt::format("UDP {} is silent, and TCP {} is open: the port is mapped as TCP", port, port),
        fmt::format("STUN is UDP. In compose files write \"{0}:{0}/udp\"; in the security "
                    "group open UDP {0}.",
                    port));
    return;
  }
  const bool refused = answer.end == StunAnswer::End::kRefused;
  report_.add(state, "D22", refused ? "refused" : "silent",
              refused ? fmt::format("nothing listens at UDP {}", address.text())
                      : fmt::format("UDP {} does not answer", address.text()),
              refused ? "Start the relay with STUN (-stun, -stun-port), and compare the port with "
                        "STUNPort in the map."
                      : fmt::format("Open UDP {} in the firewall of the machine and in the console "
                                    "of the provider; in compose files write \"{}:{}/udp\".",
                                    port, port, port));
}

void Probe::judge_mapped(const net::SocketAddress& address, const StunAnswer& answer) {
  stun_works_ = true;
  const auto mapped = kind_of(answer.mapped);
  const auto local = kind_of(answer.local);
  // Nothing can translate on the loopback interface; elsewhere a public relay must see us come
  // from a public address.
  const bool wrong =
      local == AddressKind::kLoopback
          ? answer.mapped != answer.local
          : kind_of(address.ip_text()) == AddressKind::kPublic && mapped != AddressKind::kPublic;
  if (wrong) {
    report_.add(State::kFail, "D22", "wrong-mapped",
                fmt::format("STUN at {} says that we come from {}, which cannot be: every client "
                            "gets a useless endpoint",
                            address.text(), answer.mapped),
                "A NAT in front of the server hides the clients' addresses (docker's userland "
                "proxy): use host networking, or \"userland-proxy\": false in daemon.json.");
    return;
  }
  report_.add(State::kPass, "D22", "",
              fmt::format("STUN at {} answered in {:.0f} ms: we come from {}", address.text(),
                          in_milliseconds(answer.time), answer.mapped));
}

void Probe::compare_stun_with_relay() {
  constexpr std::array kRelayCodes = {"D04", "D06", "D07", "D08", "D09", "D10",
                                      "D13", "D14", "D15", "D16", "D18", "D19"};
  const bool relay_fails =
      std::ranges::any_of(kRelayCodes, [this](const char* code) { return report_.failed(code); });
  if (stun_works_ && relay_fails) {
    report_.add(State::kInfo, "D23", "stun-only",
                "STUN is fine and the relay is not: netcheck looks green, clients choose this "
                "relay as their home, and nothing is relayed");
  } else if (!stun_works_ && target_.stun_port && !relay_fails) {
    report_.add(State::kInfo, "D23", "relay-only",
                "the relay is fine and STUN is not: netcheck shows no latency, and clients never "
                "choose this relay");
  }
}

}  // namespace detour::doctor
