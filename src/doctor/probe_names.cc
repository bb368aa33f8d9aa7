#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/duration.h"
#include "doctor/dns.h"
#include "doctor/probe.h"

namespace detour::doctor {

namespace {

/// One lost SYN costs a second, so a slower connection than this does not survive it.
constexpr Duration kSlowConnect = std::chrono::milliseconds(500);
constexpr Duration kResolverTimeout = std::chrono::seconds(2);
/// Asked beside the system's resolver when nobody names one.
constexpr std::string_view kPublicResolver = "1.1.1.1";

}  // namespace

void Probe::check_dns() {
  const bool fixed_v4 = !target_.ipv4.empty();
  const bool fixed_v6 = !target_.ipv6.empty();
  for (const auto* fixed : {&target_.ipv4, &target_.ipv6}) {
    if (net::SocketAddress::parse(*fixed, 0) && !fixed->empty()) addresses_.push_back(*fixed);
  }
  if (target_.host_is_ip()) {
    if (addresses_.empty()) addresses_.push_back(target_.host);
    return;
  }
  if (options_.skip_dns) return;
  report_.doing("looking the name up");
  std::vector<DnsAnswer> answers;
  for (const auto& resolver : options_.resolvers)
    answers.push_back(ask_resolver(resolver, target_.host, kResolverTimeout));
  if (options_.resolvers.empty()) answers.push_back(ask_system(target_.host));
  const DnsAnswer& first = answers.front();
  const bool usable = judge_answer(first, !addresses_.empty());
  if (usable && options_.resolvers.empty() && is_public(first)) {
    if (const auto resolver = net::SocketAddress::parse(kPublicResolver, 53))
      answers.push_back(ask_resolver(*resolver, target_.host, kResolverTimeout));
  }
  if (usable) compare_answers(answers);
  if (!usable) return;
  for (const auto& address : answers.front().addresses) {
    const bool is_v6 = address.find(':') != std::string::npos;
    if (is_v6 ? fixed_v6 : fixed_v4) continue;
    addresses_.push_back(address);
  }
  compare_with_map(answers.front());
}

bool Probe::is_public(const DnsAnswer& answer) {
  return std::ranges::all_of(answer.addresses, [](const auto& address) {
    return kind_of(address) == AddressKind::kPublic;
  });
}

bool Probe::judge_answer(const DnsAnswer& answer, bool map_has_addresses) {
  const State bad = map_has_addresses ? State::kWarn : State::kFail;
  if (answer.end == DnsAnswer::End::kNoAnswer) {
    report_.add(
        bad, "D12", "no-answer",
        fmt::format("{} gives no answer for {}: {}", answer.resolver, target_.host, answer.reason),
        "Check this machine's resolver (/etc/resolv.conf), or put the addresses into the "
        "map: \"IPv4\": \"203.0.113.7\".");
    return false;
  }
  if (answer.end == DnsAnswer::End::kNoName || answer.addresses.empty()) {
    report_.add(bad, "D12", "no-address",
                fmt::format("{} has no address (says {})", target_.host, answer.resolver),
                "Check the spelling, and add an A record for it at your DNS provider.");
    return false;
  }
  for (const auto& address : answer.addresses) {
    const auto kind = kind_of(address);
    if (kind == AddressKind::kFake) {
      report_.add(bad, "D12", "fake-ip",
                  fmt::format("{} answers {} for {}: a proxy program (Clash, sing-box, Surge) "
                              "intercepts DNS",
                              answer.resolver, address, target_.host),
                  fmt::format("In that program send {} past the proxy (DIRECT) and add it to "
                              "fake-ip-filter; or put the address into the map.",
                              target_.host));
      return false;
    }
    if (kind == AddressKind::kUnusable) {
      report_.add(bad, "D12", "blocked",
                  fmt::format("{} answers {} for {}: that is how names are blocked",
                              answer.resolver, address, target_.host),
                  "Take the name off the block list, or put the address into the map.");
      return false;
    }
  }
  return true;
}

void Probe::compare_answers(const std::vector<DnsAnswer>& answers) {
  const DnsAnswer& first = answers.front();
  for (const auto& other : std::span(answers).subspan(1)) {
    if (other.end == DnsAnswer::End::kNoAnswer) continue;
    const bool shared = std::ranges::any_of(first.addresses, [&other](const auto& address) {
      return std::ranges::find(other.addresses, address) != other.addresses.end();
    });
    if (shared) continue;
    report_.add(
        State::kWarn, "D12", "resolvers-differ",
        fmt::format("{} says {} and {} says {}", first.resolver, fmt::join(first.addresses, ", "),
                    other.resolver,
                    other.addresses.empty() ? "nothing"
                                            : fmt::format("{}", fmt::join(other.addresses, ", "))),
        "A record that was just changed, a stale DDNS entry, or a forged answer: compare "
        "with the server's address, and wait for the record's TTL.");
    return;
  }
  report_.add(State::kPass, "D12", "",
              fmt::format("{} is {}", target_.host, fmt::join(first.addresses, ", ")));
}

void Probe::compare_with_map(const DnsAnswer& answer) {
  for (const auto& fixed : {target_.ipv4, target_.ipv6}) {
    if (!net::SocketAddress::parse(fixed, 0) || fixed.empty()) continue;
    if (std::ranges::find(answer.addresses, fixed) != answer.addresses.end()) continue;
    report_.add(
        State::kWarn, "D12", "map-differs",
        fmt::format("the map says {}, DNS says {}", fixed, fmt::join(answer.addresses, ", ")),
        "Clients use the map's address. Bring both to the same, or leave it out of the "
        "map.");
  }
}

void Probe::check_tcp() {
  struct Failed {
    std::string address;
    int error;
  };
  std::vector<Failed> failed;
  std::vector<std::string> unroutable;
  for (const auto& ip : addresses_) {
    const auto address = net::SocketAddress::parse(ip, target_.port);
    if (!address) continue;
    report_.doing(fmt::format("connecting to {}", address->text()));
    Wire wire;
    const auto connected = wire.connect(*address, options_.timeout);
    const bool is_v6 = address->family() == AF_INET6;
    if (is_v6 && (connected.error == ENETUNREACH || connected.error == EAFNOSUPPORT ||
                  connected.error == EADDRNOTAVAIL)) {
      unroutable.push_back(address->text());
      continue;
    }
    if (connected.error != 0) {
      failed.push_back({address->text(), connected.error});
      continue;
    }
    judge_connect_time(*address, connected.time);
    if (!address_) address_ = *address;
  }
  for (const auto& text : unroutable)
    report_.add(State::kInfo, "D13", "no-ipv6",
                fmt::format("this machine has no IPv6 to reach {}", text));
  for (const auto& [text, error] : failed)
    judge_no_connection(text, error, address_ ? State::kWarn : State::kFail);
  if (!address_ && failed.empty())
    report_.add(State::kFail, "D13", "no-route",
                "the relay has IPv6 addresses only, and this machine has no IPv6",
                "Add an A record, or \"IPv4\" to the map.");
}

void Probe::judge_connect_time(const net::SocketAddress& address, Duration time) {
  const auto cause = fmt::format("{} answered in {:.0f} ms", address.text(), in_milliseconds(time));
  if (time >= kClientDialLimit) {
    report_.add(State::kFail, "D13", "too-slow", cause + ", and clients give up after 1500 ms",
                "The path loses packets or is very long: choose another network for the server.");
  } else if (time >= kSlowConnect) {
    report_.add(State::kWarn, "D13", "slow",
                cause + ": clients give up after 1500 ms, and one lost packet costs 1000",
                "The path loses packets or is very long: try again, and look at the loss "
                "(mtr, ping).");
  } else {
    report_.add(State::kPass, "D13", "", cause);
  }
}

void Probe::judge_no_connection(const std::string& address, int error, State state) {
  if (error == ECONNREFUSED) {
    report_.add(state, "D13", "refused",
                fmt::format("{} refuses the connection: nothing listens there", address),
                "Start the relay, or compare the port with the one it listens on (DERPPort in the "
                "map; with NAT the outer one).");
  } else if (error == ETIMEDOUT) {
    report_.add(state, "D13", "silent",
                fmt::format("{} does not answer: packets to it are dropped", address),
                fmt::format("Open TCP {} in the firewall of the machine and in the security group "
                            "of the provider, and check the address.",
                            target_.port));
  } else {
    report_.add(state, "D13", "unreachable",
                fmt::format("cannot connect to {}: {}", address, std::strerror(error)),
                "Check the address, and this machine's network.");
  }
}

}  // namespace detour::doctor
