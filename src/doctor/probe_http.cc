#include <fmt/format.h>

#include <algorithm>

#include "base/bytes.h"
#include "derp/frame.h"
#include "doctor/probe.h"

namespace detour::doctor {

namespace {

constexpr int kServerKeyTries = 5;

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

}  // namespace

bool Probe::open(Wire* wire) {
  if (wire->connect(*address_, options_.timeout).error != 0) return false;
  if (!target_.use_tls) return true;
  return wire->handshake({.server_name = target_.server_name(), .timeout = options_.timeout}).end ==
         TlsAnswer::End::kDone;
}

std::string Probe::get(std::string_view path, std::string_view extra) {
  return fmt::format("GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: detour doctor\r\n{}\r\n", path,
                     target_.host_header(), extra.empty() ? "Connection: close\r\n" : extra);
}

std::optional<HttpAnswer> Probe::fetch(std::string_view path) {
  Wire wire;
  if (!open(&wire)) return std::nullopt;
  return wire.ask(get(path), options_.timeout);
}

Probe::Upgraded Probe::upgrade() {
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

bool Probe::check_upgrade() {
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
    report_.add(State::kFail, "D16", "no-server-key",
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

void Probe::judge_no_upgrade(const HttpAnswer& answer) {
  const auto server = answer.header("Server");
  const std::string by = server.empty() ? "" : fmt::format(" (from \"{}\")", server);
  const auto fix = proxy_fix(server);
  const bool websocket = websocket_works();
  if (websocket) {
    report_.add(State::kFail, "D16", "websocket-only",
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
    report_.add(State::kFail, "D16", "backend-down",
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

void Probe::note_front(const HttpAnswer& answer) {
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

bool Probe::websocket_works() {
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

bool Probe::http_equals(std::string_view a, std::string_view b) {
  return std::ranges::equal(
      a, b, {}, [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
}

void Probe::check_websocket() {
  report_.doing("WebSocket");
  if (websocket_works()) {
    report_.add(State::kPass, "D17", "", "WebSocket is answered: browser clients get through");
  } else {
    report_.add(State::kInfo, "D17", "no-websocket",
                "WebSocket is not answered: clients in a browser cannot use this relay, all others "
                "can");
  }
}

void Probe::check_probe_endpoint() {
  const auto answer = fetch("/derp/latency-check");
  if (answer && answer->status == 200) return;
  report_.add(State::kWarn, "D16", "no-latency-check",
              fmt::format("/derp/latency-check is answered with {}, so clients without UDP cannot "
                          "measure this relay",
                          answer ? answer->status : 0),
              "Pass the whole host on to the relay, not only /derp.");
}

bool Probe::check_one_server() {
  report_.doing("five connections, to see one server");
  for (int i = 1; i < kServerKeyTries; ++i) {
    if (const auto key = upgrade().key) keys_.insert(key->typed());
  }
  if (keys_.size() == 1) {
    report_.add(State::kPass, "D18", "",
                fmt::format("{} connections met the same server", kServerKeyTries));
    return true;
  }
  report_.add(State::kFail, "D18", "several-servers",
              fmt::format("{} connections met {} different servers: a load balancer is in between, "
                          "and clients of one do not reach those of another",
                          kServerKeyTries, keys_.size()),
              "Do not balance DERP. Give each server a name and a node of its own in the region, "
              "and mesh them (-mesh-with, -mesh-psk-file).");
  return false;
}

void Probe::check_port_80() {
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
  report_.add(State::kWarn, "D24", "no-204",
              fmt::format("generate_204 on port {} {}: clients take that for a captive portal",
                          *target_.http_port,
                          answer ? fmt::format("is answered with {} and without the response to "
                                               "the challenge",
                                               answer->status)
                                 : "is not answered"),
              "Set \"CanPort80\": false in the map (or leave it out), or open port 80 and let the "
              "relay answer it (--http-port 80).");
}

void Probe::check_home_page(bool is_open_relay) {
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

}  // namespace detour::doctor
