#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "net/address.h"

namespace detour::doctor {

/// What a name resolves to.
struct DnsAnswer {
  enum class End : std::uint8_t {
    kAnswered,  ///< `addresses` may still be empty: the name has none.
    kNoName,    ///< NXDOMAIN.
    kNoAnswer,  ///< Nothing came in time, or an error.
  };
  End end = End::kNoAnswer;
  std::string resolver;                ///< "the system's resolver", "1.1.1.1:53".
  std::vector<std::string> addresses;  ///< IP literals, sorted.
  std::string reason = {};             ///< For kNoAnswer.
};

/// Asks as programs do: hosts file, DNS, whatever the machine is configured for.
[[nodiscard]] DnsAnswer ask_system(const std::string& name);
/// Asks one DNS server over UDP for A and AAAA records (RFC 1035, RFC 3596).
[[nodiscard]] DnsAnswer ask_resolver(const net::SocketAddress& resolver, const std::string& name,
                                     Duration timeout);

/// What kind of address it is, where that matters for a public service.
enum class AddressKind : std::uint8_t {
  kPublic,
  kLoopback,
  kPrivate,   ///< RFC 1918, RFC 4193, link-local, carrier-grade NAT.
  kFake,      ///< 198.18.0.0/15: what proxy clients answer in place of the address.
  kUnusable,  ///< 0.0.0.0, multicast and the like: blocked names are answered so.
};
[[nodiscard]] AddressKind kind_of(std::string_view ip);

}  // namespace detour::doctor
