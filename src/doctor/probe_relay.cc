#include "doctor/probe_relay.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "crypto/keys.h"
#include "derp/frame.h"
#include "doctor/dns.h"
#include "doctor/judge_certificate.h"
#include "doctor/relay_proof.h"
#include "doctor/stun_probe.h"
#include "doctor/wire.h"

namespace detour::doctor {
namespace {

/// One lost SYN costs a second, so a slower connection than this does not survive it.
constexpr Duration kSlowConnect = std::chrono::milliseconds(500);
constexpr int kServerKeyTries = 5;
constexpr int kStunTries = 3;
constexpr Duration kStunWait = std::chrono::milliseconds(700);
constexpr Duration kResolverTimeout = std::chrono::seconds(2);
/// Asked beside the system's resolver when nobody names one.
constexpr std::string_view kPublicResolver = "1.1.1.1";
constexpr std::string_view kNeutralName = "www.example.com";

double milliseconds(Duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

/// What to write into the configuration of a proxy that is known by its Server header.
std::string proxy_fix(std::string_view server) {
  const auto is = [server](std::string_view name) {
    return std::ranges::search(server, name, {}, [](char c) {
             return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
           }).begin() != server.end();
  };
  if (is("nginx") || is("openresty"))
    return "nginx is in front. In the location that passes to the relay:\n"
           "  proxy_http_version 1.1;\n"
           "  proxy_set_header Upgrade $http_upgrade;\n"
           "  proxy_set_header Connection \"upgrade\";\n"
           "  proxy_buffering off;\n"
           "  proxy_read_timeout 1h;\n"
           "Better: a stream block that passes TCP through, and the relay ends TLS itself.";
  if (is("apache"))
    return "Apache is in front. Pass the upgrade on (mod_proxy, 2.4.47 or newer):\n"
           "  ProxyPass /derp http://127.0.0.1:8080/derp upgrade=DERP";
  if (is("cloudflare"))
    return "Cloudflare is in front and passes WebSocket only: set the record to \"DNS only\".";
  if (is("caddy") || is("traefik"))
    return "The proxy in front passes upgrades on by itself when nothing removes the headers: look "
           "for rules that set Upgrade or Connection. Better: pass TCP through (SNI routing).";
  return "Whatever is in front must pass Upgrade and Connection on. Better: let it pass TCP "
         "through, and the relay ends TLS itself.";
}

class Probe {
 public:
  Probe(const Target& target, const ProbeOptions& options, Report& report)
      : target_(target), options_(options), report_(report) {}

  void run() {
    check_dns();
    if (addresses_.empty()) {
      report_.leave_out({"D13", "D04", "D06", "D16", "D19", "D22"});
      return;
    }
    if (target_.relays) check_relay();
    check_stun();
    if (target_.relays) compare_stun_with_relay();
    if (target_.http_port) check_port_80();
  }

 private:
  void check_relay() {
    check_tcp();
    if (!address_) {
      report_.leave_out({"D04", "D06", "D16", "D18", "D19"});
      return;
    }
    if (target_.use_tls && !check_tls()) {
      report_.leave_out({"D16", "D17", "D18", "D19"});
      return;
    }
    if (!check_upgrade()) {
      report_.leave_out({"D18", "D19"});
      return;
    }
    check_websocket();
    check_probe_endpoint();
    if (!check_one_server()) {
      report_.leave_out({"D19"});
      return;
    }
    prove();
  }

  // --- D12
  // ----------------------------------------------------------------------------------------

  /// Fills `addresses_` with what clients would dial.
  void check_dns() {
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

  static bool is_public(const DnsAnswer& answer) {
    return std::ranges::all_of(answer.addresses, [](const auto& address) {
      return kind_of(address) == AddressKind::kPublic;
    });
  }

  /// Whether its addresses can be dialled. With addresses in the map a fault is a warning only.
  bool judge_answer(const DnsAnswer& answer, bool map_has_addresses) {
    const State bad = map_has_addresses ? State::kWarn : State::kFail;
    if (answer.end == DnsAnswer::End::kNoAnswer) {
      report_.add(bad, "D12", "no-answer",
                  fmt::format("{} gives no answer for {}: {}", answer.resolver, target_.host,
                              answer.reason),
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

  void compare_answers(const std::vector<DnsAnswer>& answers) {
    const DnsAnswer& first = answers.front();
    for (const auto& other : std::span(answers).subspan(1)) {
      if (other.end == DnsAnswer::End::kNoAnswer) continue;
      const bool shared = std::ranges::any_of(first.addresses, [&other](const auto& address) {
        return std::ranges::find(other.addresses, address) != other.addresses.end();
      });
      if (shared) continue;
      report_.add(State::kWarn, "D12", "resolvers-differ",
                  fmt::format("{} says {} and {} says {}", first.resolver,
                              fmt::join(first.addresses, ", "), other.resolver,
                              other.addresses.empty()
                                  ? "nothing"
                                  : fmt::format("{}", fmt::join(other.addresses, ", "))),
                  "A record that was just changed, a stale DDNS entry, or a forged answer: compare "
                  "with the server's address, and wait for the record's TTL.");
      return;
    }
    report_.add(State::kPass, "D12", "",
                fmt::format("{} is {}", target_.host, fmt::join(first.addresses, ", ")));
  }

  void compare_with_map(const DnsAnswer& answer) {
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

  // --- D13
  // ----------------------------------------------------------------------------------------

  /// Connects to every address. `address_` is the first that answers.
  void check_tcp() {
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

  void judge_connect_time(const net::SocketAddress& address, Duration time) {
    const auto cause = fmt::format("{} answered in {:.0f} ms", address.text(), milliseconds(time));
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

  void judge_no_connection(const std::string& address, int error, State state) {
    if (error == ECONNREFUSED) {
      report_.add(
          state, "D13", "refused",
          fmt::format("{} refuses the connection: nothing listens there", address),
          "Start the relay, or compare the port with the one it listens on (DERPPort in the "
          "map; with NAT the outer one).");
    } else if (error == ETIMEDOUT) {
      report_.add(
          state, "D13", "silent",
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

  // --- D04, D06 to D11, D14, D15
  // ------------------------------------------------------------------

  TlsAnswer try_tls(const std::string& server_name, client::TlsVersions versions) {
    Wire wire;
    if (const auto connected = wire.connect(*address_, options_.timeout); connected.error != 0) {
      TlsAnswer answer;
      answer.end = TlsAnswer::End::kNotConnected;
      answer.reason = std::strerror(connected.error);
      return answer;
    }
    return wire.handshake(
        {.server_name = server_name, .versions = versions, .timeout = options_.timeout});
  }

  /// False when nothing further makes sense.
  bool check_tls() {
    report_.doing("TLS handshake");
    const TlsAnswer answer = try_tls(target_.server_name(), client::TlsVersions::kAny);
    if (answer.end != TlsAnswer::End::kDone) {
      judge_no_tls(answer);
      return false;
    }
    report_.add(State::kPass, "D04", "",
                fmt::format("{} with {}, in {:.0f} ms", answer.version, answer.cipher,
                            milliseconds(answer.time)));
    check_versions(answer);
    has_meta_ = answer.has_meta();

    const auto date = fetch_date();
    for (auto& finding : judge_certificate({.sent = answer.certificates,
                                            .has_meta = answer.has_meta(),
                                            .name = target_.expected_name(),
                                            .sends_sni = !target_.host_is_ip(),
                                            .pin = target_.pin,
                                            .insecure = target_.insecure,
                                            .authorities_file = target_.authorities_file,
                                            .skew = date}))
      report_.add(std::move(finding));
    return !report_.failed("D15");
  }

  void check_versions(const TlsAnswer& first) {
    if (first.version == "TLSv1.3") return;
    report_.add(
        State::kWarn, "D15", "old-tls",
        fmt::format("the server speaks {} at most: logins take a round trip longer, and its "
                    "certificate is seen by everybody on the path",
                    first.version),
        "Turn TLS 1.3 on where TLS ends; the relay itself has it.");
  }

  void judge_no_tls(const TlsAnswer& answer) {
    switch (answer.end) {
      case TlsAnswer::End::kNotTls:
        report_.add(State::kFail, "D04", "not-tls",
                    "what answers there is no TLS: clients say \"first record does not look like a "
                    "TLS handshake\"",
                    "derper serves plain HTTP on other ports than 443 unless told otherwise: add "
                    "-certmode manual with -certdir and -hostname. Detour: leave out --no-tls. A "
                    "proxy that maps ports must lead to the TLS port.");
        return;
      case TlsAnswer::End::kSilent:
        report_.add(State::kFail, "D04", "silent",
                    fmt::format("the connection is taken, and no answer to the TLS handshake comes "
                                "within {:.0f} s",
                                std::chrono::duration<double>(options_.timeout).count()),
                    "A port forward without a server behind it, a relay that hangs, or a firewall "
                    "that swallows TLS: look at the relay's log, and try from another network.");
        return;
      case TlsAnswer::End::kReset:
      case TlsAnswer::End::kClosed:
        judge_reset(answer);
        return;
      case TlsAnswer::End::kAlert:
        judge_alert(answer);
        return;
      case TlsAnswer::End::kNotConnected:
        report_.add(
            State::kFail, "D13", "unsteady",
            fmt::format("the first connection was made and the next one was not: {}",
                        answer.reason),
            "A firewall or the relay limits connections from one address, or the path loses "
            "packets: wait a minute and try again.");
        return;
      default:
        report_.add(State::kFail, "D15", "handshake",
                    fmt::format("the TLS handshake failed: {}", answer.reason),
                    "Compare with another client: openssl s_client -connect HOST:PORT");
    }
  }

  /// Cut off after our first message: because of the name in it?
  void judge_reset(const TlsAnswer& answer) {
    const char* how = answer.end == TlsAnswer::End::kReset ? "reset" : "closed";
    const auto name = target_.server_name();
    if (!name.empty()) {
      for (const std::string& other : {std::string(), std::string(kNeutralName)}) {
        const auto again = try_tls(other, client::TlsVersions::kAny);
        if (again.end != TlsAnswer::End::kDone && again.end != TlsAnswer::End::kAlert) continue;
        report_.add(State::kFail, "D14", "reset-by-name",
                    fmt::format("the connection is {} right after a handshake that names {}, and "
                                "not {}: something on the path filters by name",
                                how, name,
                                other.empty() ? "when it names nothing"
                                              : fmt::format("when it names {}", other)),
                    "The name is blocked, or not registered (in mainland China a domain needs its "
                    "ICP filing): use the IP address as HostName, with a self-signed certificate "
                    "and its pin.");
        return;
      }
    }
    report_.add(State::kFail, "D04", "cut-off",
                fmt::format("the connection is {} at the TLS handshake, whatever name it has", how),
                "A port forward without a server behind it, a server that refuses this address, or "
                "a filter on the path: look at the relay's log, and try from another network.");
  }

  void judge_alert(const TlsAnswer& answer) {
    constexpr int kHandshakeFailure = 40;
    constexpr int kProtocolVersion = 70;
    constexpr int kInternalError = 80;
    constexpr int kUnrecognizedName = 112;
    if (answer.alert == kProtocolVersion) {
      report_.add(State::kFail, "D15", "old-tls", "the server speaks neither TLS 1.2 nor 1.3",
                  "Turn both on where TLS ends.");
      return;
    }
    if (answer.alert == kUnrecognizedName || answer.alert == kInternalError ||
        answer.alert == kHandshakeFailure) {
      report_.add(State::kFail, "D07", "name-refused",
                  fmt::format("the server refuses the handshake for the name \"{}\" ({}): it was "
                              "started for another one",
                              target_.server_name(), answer.reason),
                  "HostName in the map and -hostname of the relay must be the same name.");
      return;
    }
    report_.add(State::kFail, "D15", "refused",
                fmt::format("the server refuses the TLS handshake: {}", answer.reason),
                "Look at the log of what ends TLS there.");
  }

  /// The other machine's clock less ours.
  std::optional<std::chrono::seconds> fetch_date() {
    const auto answer = fetch("/derp/probe");
    if (!answer) return std::nullopt;
    const auto date = parse_http_date(answer->header("Date"));
    if (!date) return std::nullopt;
    const auto now =
        std::chrono::time_point_cast<std::chrono::seconds>(std::chrono::system_clock::now());
    return std::chrono::seconds(*date) - now.time_since_epoch();
  }

  // --- D16 to D18, D21, D24
  // -----------------------------------------------------------------------

  /// A wire with TLS, ready for a request; false when it cannot be had any more.
  bool open(Wire* wire) {
    if (wire->connect(*address_, options_.timeout).error != 0) return false;
    if (!target_.use_tls) return true;
    return wire->handshake({.server_name = target_.server_name(), .timeout = options_.timeout})
               .end == TlsAnswer::End::kDone;
  }

  std::string get(std::string_view path, std::string_view extra = {}) {
    return fmt::format("GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: detour doctor\r\n{}\r\n", path,
                       target_.host_header(), extra.empty() ? "Connection: close\r\n" : extra);
  }

  std::optional<HttpAnswer> fetch(std::string_view path) {
    Wire wire;
    if (!open(&wire)) return std::nullopt;
    return wire.ask(get(path), options_.timeout);
  }

  struct Upgraded {
    std::optional<HttpAnswer> answer;
    std::optional<crypto::NodePublic> key;  ///< Out of the ServerKey frame.
  };
  Upgraded upgrade() {
    Wire wire;
    if (!open(&wire)) return {};
    Upgraded upgraded{.answer = wire.ask(get("/derp", "Upgrade: DERP\r\nConnection: Upgrade\r\n"),
                                         options_.timeout),
                      .key = std::nullopt};
    if (!upgraded.answer || upgraded.answer->status != 101) return upgraded;
    const auto frame = wire.read_exactly(derp::kServerKeyFrameSize, options_.timeout);
    if (!frame) return upgraded;
    const auto key =
        derp::read_server_key(as_bytes(std::string_view(*frame)).subspan(derp::kFrameHeaderSize));
    if (key) upgraded.key = *key;
    return upgraded;
  }

  bool check_upgrade() {
    report_.doing("upgrade to DERP");
    const Upgraded upgraded = upgrade();
    if (upgraded.answer && upgraded.answer->status == 101) {
      if (upgraded.key) {
        keys_.insert(upgraded.key->typed());
        report_.add(State::kPass, "D16", "",
                    fmt::format("/derp is upgraded, the relay's key is {}", upgraded.key->typed()));
        note_front(*upgraded.answer);
        return true;
      }
      report_.add(
          State::kFail, "D16", "no-server-key",
          "the upgrade is answered, and then the relay's key does not come",
          "Something between buffers or cuts the stream: turn buffering off there, or let it "
          "pass TCP through.");
      return false;
    }
    if (!upgraded.answer || upgraded.answer->status == 0) {
      report_.add(State::kFail, "D16", "no-http",
                  upgraded.answer ? "what answers there does not speak HTTP"
                                  : "no answer to the request for /derp comes",
                  "Something else listens on that port, or the relay behind a proxy hangs: compare "
                  "the port, and look at the relay's log.");
      return false;
    }
    judge_no_upgrade(*upgraded.answer);
    return false;
  }

  void judge_no_upgrade(const HttpAnswer& answer) {
    const auto server = answer.header("Server");
    const std::string by = server.empty() ? "" : fmt::format(" (from \"{}\")", server);
    const auto fix = proxy_fix(server);
    const bool websocket = websocket_works();
    if (websocket) {
      report_.add(
          State::kFail, "D16", "websocket-only",
          fmt::format("WebSocket gets through and the upgrade to DERP is answered with {}{}: "
                      "a proxy passes WebSocket only, which serves browsers and no node",
                      answer.status, by),
          fix);
    } else if (answer.status == 426) {
      report_.add(State::kFail, "D16", "upgrade-stripped",
                  fmt::format("the relay asks for an upgrade that was sent (426){}: a proxy in "
                              "front takes the header away",
                              by),
                  fix);
    } else if (answer.status == 404) {
      report_.add(State::kFail, "D16", "not-found",
                  fmt::format("/derp is not found there (404){}: DERP is switched off, or a proxy "
                              "or web server does not pass the path on",
                              by),
                  "Start the relay without -derp=false, and pass the whole host on, not one path.");
    } else if (answer.status >= 502 && answer.status <= 504) {
      report_.add(
          State::kFail, "D16", "backend-down",
          fmt::format("a proxy answers {}{}: it does not reach the relay", answer.status, by),
          "Start the relay, and compare the proxy's upstream with the port it listens on.");
    } else {
      report_.add(State::kFail, "D16", "no-upgrade",
                  fmt::format("the request for /derp is answered with {}{} and not with 101: what "
                              "is there is no relay, or a proxy handles the request itself",
                              answer.status, by),
                  fix);
    }
  }

  /// Who ends TLS, where it is not the relay and yet works.
  void note_front(const HttpAnswer& answer) {
    if (!target_.use_tls) return;
    if (has_meta_) {
      report_.add(State::kPass, "D15", "",
                  "the relay itself ends TLS: its meta certificate is there");
      return;
    }
    const auto server = answer.header("Server");
    report_.add(State::kInfo, "D15", "front",
                fmt::format("something in front of the relay ends TLS{}: it works, and each login "
                            "takes a round trip longer",
                            server.empty() ? "" : fmt::format(" (\"{}\")", server)));
  }

  bool websocket_works() {
    Wire wire;
    if (!open(&wire)) return false;
    const auto answer = wire.ask(
        get("/derp",
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: ZGV0b3VyIGRvY3RvciBrZQ==\r\nSec-WebSocket-Protocol: derp\r\n"),
        options_.timeout);
    // A relay without WebSocket may take any upgrade of /derp for one to DERP.
    return answer && answer->status == 101 && http_equals(answer->header("Upgrade"), "websocket");
  }

  static bool http_equals(std::string_view a, std::string_view b) {
    return std::ranges::equal(
        a, b, {}, [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  }

  void check_websocket() {
    report_.doing("WebSocket");
    if (websocket_works()) {
      report_.add(State::kPass, "D17", "", "WebSocket is answered: browser clients get through");
    } else {
      report_.add(
          State::kInfo, "D17", "no-websocket",
          "WebSocket is not answered: clients in a browser cannot use this relay, all others "
          "can");
    }
  }

  void check_probe_endpoint() {
    const auto answer = fetch("/derp/latency-check");
    if (answer && answer->status == 200) return;
    report_.add(
        State::kWarn, "D16", "no-latency-check",
        fmt::format("/derp/latency-check is answered with {}, so clients without UDP cannot "
                    "measure this relay",
                    answer ? answer->status : 0),
        "Pass the whole host on to the relay, not only /derp.");
  }

  bool check_one_server() {
    report_.doing("five connections, to see one server");
    for (int i = 1; i < kServerKeyTries; ++i) {
      if (const auto key = upgrade().key) keys_.insert(key->typed());
    }
    if (keys_.size() == 1) {
      report_.add(State::kPass, "D18", "",
                  fmt::format("{} connections met the same server", kServerKeyTries));
      return true;
    }
    report_.add(
        State::kFail, "D18", "several-servers",
        fmt::format("{} connections met {} different servers: a load balancer is in between, "
                    "and clients of one do not reach those of another",
                    kServerKeyTries, keys_.size()),
        "Do not balance DERP. Give each server a name and a node of its own in the region, "
        "and mesh them (-mesh-with, -mesh-psk-file).");
    return false;
  }

  void check_port_80() {
    const auto address = net::SocketAddress::parse(addresses_.front(), *target_.http_port);
    report_.doing("captive portal check");
    Wire wire;
    std::optional<HttpAnswer> answer;
    const auto challenge = "ts_" + target_.host;
    if (address && wire.connect(*address, options_.timeout).error == 0)
      answer = wire.ask(fmt::format("GET /generate_204 HTTP/1.1\r\nHost: {}\r\n"
                                    "X-Tailscale-Challenge: {}\r\nConnection: close\r\n\r\n",
                                    target_.host, challenge),
                        options_.timeout);
    const bool valid = answer && answer->status == 204 &&
                       answer->header("X-Tailscale-Response") == "response " + challenge;
    if (valid) {
      report_.add(State::kPass, "D24", "",
                  fmt::format("generate_204 on port {} answers the challenge", *target_.http_port));
      return;
    }
    report_.add(
        State::kWarn, "D24", "no-204",
        fmt::format("generate_204 on port {} {}: clients take that for a captive portal",
                    *target_.http_port,
                    answer ? fmt::format("is answered with {} and without the response to "
                                         "the challenge",
                                         answer->status)
                           : "is not answered"),
        "Set \"CanPort80\": false in the map (or leave it out), or open port 80 and let the "
        "relay answer it (--http-port 80).");
  }

  void check_home_page(bool is_open_relay) {
    const auto page = fetch("/");
    const bool recognisable =
        page && page->status == 200 && page->body.find("DERP") != std::string::npos;
    if (is_open_relay && recognisable) {
      report_.add(State::kWarn, "D21", "open-and-indexable",
                  "anyone can relay through this server, and its home page tells scanners what it "
                  "is",
                  "Admit your own nodes only (--verify-clients, --verify-client-url or an allow "
                  "file), and hide the page: --home blank.");
    } else if (is_open_relay) {
      report_.add(State::kInfo, "D21", "open",
                  "anyone who knows the address can relay through this server");
    } else if (recognisable) {
      report_.add(State::kInfo, "D21", "indexable",
                  "the home page tells scanners that this is a DERP relay; --home blank hides it");
    } else {
      report_.add(State::kPass, "D21", "", "strangers are refused, and the home page says nothing");
    }
  }

  // --- D19, D20
  // -----------------------------------------------------------------------------------

  void prove() {
    report_.doing("relay proof: two temporary keys, packets both ways");
    client::DialOptions dial{
        .host = target_.host, .port = target_.port, .use_tls = target_.use_tls};
    dial.address = address_->ip_text();
    dial.tls.trust.kind = client::Trust::Kind::kAnyone;  // Judged above.
    dial.timeout = options_.timeout;
    const Proof proof = prove_relay(
        {.dial = dial,
         .packet_timeout = options_.timeout,
         .throughput_time = options_.throughput ? options_.throughput_time : Duration::zero()});
    if (proof.end == Proof::End::kRefused) {
      report_.add(
          State::kInfo, "D20", "unknown-refused",
          "a key that the relay does not know is refused, so packets could not be sent for "
          "a test: if your own nodes are refused too, its log names the key and the source");
      check_home_page(false);
      return;
    }
    if (proof.end == Proof::End::kNoLogin) {
      report_.add(
          State::kFail, "D19", "no-login", fmt::format("the login does not end: {}", proof.failure),
          "The relay hangs, or something between cuts the stream: look at its log and load.");
      return;
    }
    judge_proof(proof);
    check_home_page(true);
  }

  void judge_proof(const Proof& proof) {
    const auto counts = fmt::format("{} of {} packets", proof.arrived, proof.sent);
    if (proof.arrived == 0) {
      report_.add(State::kFail, "D19", "nothing-relayed",
                  "TLS and login are fine, and no packet is delivered",
                  "Several servers behind one address, a proxy that holds data back, or a broken "
                  "relay: restart it, and connect to it without anything in between.");
    } else if (proof.damaged > 0) {
      report_.add(
          State::kFail, "D19", "damaged",
          fmt::format("{} packets arrived with other bytes than they left with", proof.damaged),
          "Something between rewrites the stream, or the relay is broken.");
    } else if (!proof.lost_sizes.empty() && proof.sizes.size() > 1) {
      report_.add(State::kFail, "D19", "size-lost",
                  fmt::format("packets of {} bytes are lost, smaller ones arrive",
                              fmt::join(proof.lost_sizes, " and ")),
                  "An MTU that is too large somewhere on the path (PPPoE, tunnels) with ICMP "
                  "blocked: ip link set dev eth0 mtu 1400 on the server for a test, or clamp the "
                  "MSS.");
    } else if (proof.arrived < proof.sent) {
      report_.add(State::kFail, "D19", "loss", fmt::format("only {} arrived", counts),
                  "Look at the relay's log and load, and at the path.");
    } else if (!proof.in_order) {
      report_.add(State::kWarn, "D19", "order", "packets arrived in another order than sent",
                  "The relay reorders packets: tunnelled connections get slow.");
    } else {
      report_.add(
          State::kPass, "D19", "",
          fmt::format("{} of 1 to 65536 bytes arrived both ways in order, round trip {:.1f} "
                      "ms",
                      counts, milliseconds(proof.round_trip)));
    }
    if (proof.bits_per_second > 0)
      report_.add(
          State::kInfo, "D27", "throughput",
          fmt::format("about {:.1f} Mbit/s through the relay from here, both ways over this "
                      "line",
                      proof.bits_per_second / 1e6));
  }

  // --- D22, D23
  // -----------------------------------------------------------------------------------

  void check_stun() {
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

  void judge_stun(const net::SocketAddress& address, const StunAnswer& answer) {
    const State bad = stun_works_ ? State::kWarn : State::kFail;
    switch (answer.end) {
      case StunAnswer::End::kAnswered:
        judge_mapped(address, answer);
        return;
      case StunAnswer::End::kUnroutable:
        report_.add(address.family() == AF_INET6 ? State::kInfo : bad, "D22", "no-route",
                    fmt::format("this machine cannot send UDP to {}", address.text()));
        return;
      case StunAnswer::End::kElsewhere:
        report_.add(
            bad, "D22", "other-source",
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
        judge_no_stun(address, answer, bad);
        return;
    }
  }

  void judge_no_stun(const net::SocketAddress& address, const StunAnswer& answer, State state) {
    Wire wire;
    const bool tcp_open = wire.connect(address, kClientDialLimit).error == 0;
    const auto port = address.port();
    if (tcp_open) {
      report_.add(
          state, "D22", "tcp-only",
          fmt::format("UDP {} is silent, and TCP {} is open: the port is mapped as TCP", port,
                      port),
          fmt::format("STUN is UDP. In compose files write \"{0}:{0}/udp\"; in the security "
                      "group open UDP {0}.",
                      port));
      return;
    }
    const bool refused = answer.end == StunAnswer::End::kRefused;
    report_.add(state, "D22", refused ? "refused" : "silent",
                refused ? fmt::format("nothing listens at UDP {}", address.text())
                        : fmt::format("UDP {} does not answer", address.text()),
                refused
                    ? "Start the relay with STUN (-stun, -stun-port), and compare the port with "
                      "STUNPort in the map."
                    : fmt::format("Open UDP {} in the firewall of the machine and in the console "
                                  "of the provider; in compose files write \"{}:{}/udp\".",
                                  port, port, port));
  }

  void judge_mapped(const net::SocketAddress& address, const StunAnswer& answer) {
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
                            milliseconds(answer.time), answer.mapped));
  }

  void compare_stun_with_relay() {
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

  const Target& target_;
  const ProbeOptions& options_;
  Report& report_;
  std::vector<std::string> addresses_;         ///< IP literals, those of the map first.
  std::optional<net::SocketAddress> address_;  ///< That answered; all else goes there.
  std::set<std::string> keys_;                 ///< Of the servers that were met.
  bool has_meta_ = false;
  bool stun_works_ = false;
};

}  // namespace

void probe_relay(const Target& target, const ProbeOptions& options, Report& report) {
  Probe(target, options, report).run();
}

}  // namespace detour::doctor
