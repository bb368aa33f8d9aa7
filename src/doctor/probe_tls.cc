#include <fmt/format.h>

#include <cstring>
#include <utility>

#include "base/duration.h"
#include "doctor/judge_certificate.h"
#include "doctor/probe.h"

namespace detour::doctor {

namespace {

constexpr std::string_view kNeutralName = "www.example.com";

}  // namespace

TlsAnswer Probe::try_tls(const std::string& server_name, client::TlsVersions versions) {
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

bool Probe::check_tls() {
  report_.doing("TLS handshake");
  const TlsAnswer answer = try_tls(target_.server_name(), client::TlsVersions::kAny);
  if (answer.end != TlsAnswer::End::kDone) {
    judge_no_tls(answer);
    return false;
  }
  report_.add(State::kPass, "D04", "",
              fmt::format("{} with {}, in {:.0f} ms", answer.version, answer.cipher,
                          in_milliseconds(answer.time)));
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

void Probe::check_versions(const TlsAnswer& first) {
  if (first.version == "TLSv1.3") return;
  report_.add(State::kWarn, "D15", "old-tls",
              fmt::format("the server speaks {} at most: logins take a round trip longer, and its "
                          "certificate is seen by everybody on the path",
                          first.version),
              "Turn TLS 1.3 on where TLS ends; the relay itself has it.");
}

void Probe::judge_no_tls(const TlsAnswer& answer) {
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
          fmt::format("the first connection was made and the next one was not: {}", answer.reason),
          "A firewall or the relay limits connections from one address, or the path loses "
          "packets: wait a minute and try again.");
      return;
    default:
      report_.add(State::kFail, "D15", "handshake",
                  fmt::format("the TLS handshake failed: {}", answer.reason),
                  "Compare with another client: openssl s_client -connect HOST:PORT");
  }
}

void Probe::judge_reset(const TlsAnswer& answer) {
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

void Probe::judge_alert(const TlsAnswer& answer) {
  constexpr int kHandshakeFailure = 40;
  constexpr int kProtocolVersion = 70;
  constexpr int kInternalError = 80;
  constexpr int kUnrecognizedName = 112;
  if (answer.alert == kProtocolVersion) {
    report_.add(State::kFail, "D15", "old-tls", "the server speaks neither TLS 1.2 nor 1.3",
                "Turn both on where TLS ends.");
    return;
  }
  // Some servers say so with a failure of the handshake; without a name it means what it says.
  if (answer.alert == kUnrecognizedName || answer.alert == kInternalError ||
      (answer.alert == kHandshakeFailure && !target_.server_name().empty())) {
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

std::optional<std::chrono::seconds> Probe::fetch_date() {
  const auto answer = fetch("/derp/probe");
  if (!answer) return std::nullopt;
  const auto date = parse_http_date(answer->header("Date"));
  if (!date) return std::nullopt;
  const auto now =
      std::chrono::time_point_cast<std::chrono::seconds>(std::chrono::system_clock::now());
  return std::chrono::seconds(*date) - now.time_since_epoch();
}

}  // namespace detour::doctor
