#include "doctor/finding.h"

#include <algorithm>
#include <array>

#include "base/check.h"

namespace detour::doctor {
namespace {

constexpr auto kCodes = std::to_array<Code>({
    {"D00", "the doctor itself"},
    {"D01", "addresses and settings as written"},
    {"D02", "which source each setting came from"},
    {"D03", "listen ports and privileges"},
    {"D04", "TLS on the DERP port"},
    {"D05", "files of the service"},
    {"D06", "certificate chain"},
    {"D07", "names in the certificate"},
    {"D08", "dates of the certificate"},
    {"D09", "clock"},
    {"D10", "pin"},
    {"D11", "clients that trust this certificate"},
    {"D12", "DNS"},
    {"D13", "TCP connection"},
    {"D14", "interference with the server name"},
    {"D15", "who ends TLS"},
    {"D16", "upgrade to DERP"},
    {"D17", "WebSocket"},
    {"D18", "one server behind the address"},
    {"D19", "relay proof"},
    {"D20", "admission"},
    {"D21", "open to strangers"},
    {"D22", "STUN"},
    {"D23", "what netcheck will say"},
    {"D24", "captive portal check on port 80"},
    {"D25", "DERP map"},
    {"D26", "limits of the machine"},
    {"D27", "quality of the path"},
    {"D28", "a node on the same machine"},
    {"D29", "mesh"},
    {"D30", "advertised and real ports"},
    {"D31", "proxy variables"},
    {"D32", "proxies on the client's side"},
    {"D33", "peer relays"},
});

}  // namespace

std::string_view state_name(State state) {
  switch (state) {
    case State::kPass:
      return "PASS";
    case State::kInfo:
      return "INFO";
    case State::kWarn:
      return "WARN";
    case State::kFail:
      return "FAIL";
  }
  return "?";
}

std::span<const Code> codes() {
  return kCodes;
}

std::string_view title_of(std::string_view code) {
  const auto found = std::ranges::find(kCodes, code, &Code::code);
  DETOUR_CHECK(found != kCodes.end());
  return found->title;
}

}  // namespace detour::doctor
