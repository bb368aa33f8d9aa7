#include "client/advice.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <cerrno>

namespace detour::client {

namespace {

std::string tcp_advice(const Failure& failure) {
  if (failure.system_error == ECONNREFUSED)
    return "Start the relay, or check the port that it listens on (443 unless told otherwise).";
  if (failure.timed_out)
    return "A firewall or security group drops packets to that port, or the host is down.";
  if (failure.system_error == ENETUNREACH || failure.system_error == EHOSTUNREACH)
    return "This machine has no route to that address.";
  return {};
}

std::string tls_advice(const Failure& failure) {
  switch (failure.tls_problem) {
    case TlsProblem::kNotTls:
      return "What listens there does not speak TLS: check the port. A relay behind a proxy that "
             "ends TLS is reached with http://.";
    case TlsProblem::kRefused:
      return "The relay refused the handshake. It may have no certificate for this name: use the "
             "host name that it was started with.";
    case TlsProblem::kSelfSigned:
      return fmt::format("If the relay printed this pin at its start, give it: --pin {}",
                         failure.certificate_pin);
    case TlsProblem::kUnknownIssuer:
      return fmt::format(
          "Either the relay sends its certificate without the intermediate one (configure the full "
          "chain), or the authority is a private one (give its file, or --pin {}).",
          failure.certificate_pin);
    case TlsProblem::kExpired:
      return "Renew the certificate and restart the relay, and check the clocks of both machines.";
    case TlsProblem::kWrongName:
      return "Use the host name that the certificate was made for, or get one for this name.";
    case TlsProblem::kWrongPin:
      return fmt::format(
          "Somebody is in between, or the relay has got a new certificate. Only if you know that "
          "it "
          "has: the new pin is {}",
          failure.certificate_pin);
    case TlsProblem::kNone:
      break;
  }
  if (failure.timed_out) return "Something accepts connections there and does not answer.";
  return {};
}

std::string http_advice(const Failure& failure) {
  switch (failure.http_status) {
    case 404:
      return "DERP is switched off there, or a proxy in front does not pass /derp on.";
    case 400:
      return "If that port speaks TLS, leave http:// out. Otherwise a proxy in front refuses the "
             "upgrade: it must pass Upgrade and Connection on.";
    case 426:
      return "A proxy in front removes the Upgrade header: it must pass Upgrade and Connection on.";
    case 502:
    case 503:
    case 504:
      return "A proxy in front does not reach the relay behind it.";
    case 0:
      return "What answers there is no DERP relay: check host and port.";
    default:
      return "What answers there is no DERP relay, or a proxy in front does not pass the upgrade "
             "on.";
  }
}

std::string login_advice(const Failure& failure) {
  if (failure.timed_out)
    return "The relay took the connection and says nothing: its log and its load may tell why.";
  return "The relay does not admit this key. A relay that admits known clients only refuses "
         "throw-away keys; its log names the key and the reason.";
}

}  // namespace

std::string advice(const Failure& failure) {
  switch (failure.layer) {
    case Layer::kAddress:
      return "Check the spelling of the name, and that it has an address in DNS.";
    case Layer::kTcp:
      return tcp_advice(failure);
    case Layer::kTls:
      return tls_advice(failure);
    case Layer::kHttp:
      return http_advice(failure);
    case Layer::kLogin:
      return login_advice(failure);
    case Layer::kRelay:
      return {};
  }
  return {};
}

}  // namespace detour::client
