#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <variant>

#include "base/result.h"

/// STUN as Tailscale's clients speak it (RFC 8489, docs/protocol.md, STUN). No I/O, no allocation.
namespace detour::stun {

inline constexpr std::size_t kHeaderSize = 20;
inline constexpr std::size_t kResponseSizeMax = 44;

using TransactionId = std::array<std::uint8_t, 12>;

struct Endpoint {
  /// 4 bytes of IPv4, or 16 of IPv6. An IPv4-mapped IPv6 address counts as IPv4.
  std::variant<std::array<std::uint8_t, 4>, std::array<std::uint8_t, 16>> address;
  std::uint16_t port;  ///< Host byte order.

  friend bool operator==(const Endpoint&, const Endpoint&) = default;
};

/// Accepts a binding request of Tailscale's form and gives its transaction id: SOFTWARE `tailnode`
/// somewhere, FINGERPRINT last and right. The length field in the header is not checked, as in the
/// reference. All failures mean: stay silent.
[[nodiscard]] Result<TransactionId> parse_request(std::span<const std::uint8_t> datagram);

struct Response {
  std::array<std::uint8_t, kResponseSizeMax> bytes;
  std::size_t size;  ///< 32 for IPv4, 44 for IPv6.

  [[nodiscard]] std::span<const std::uint8_t> span() const { return std::span(bytes).first(size); }
};

/// A success response with one XOR-MAPPED-ADDRESS: the address that the request came from.
[[nodiscard]] Response encode_response(const TransactionId& id, const Endpoint& source);

/// The client's side (bench, ping): a request of Tailscale's form, 40 bytes.
inline constexpr std::size_t kRequestSize = 40;
[[nodiscard]] std::array<std::uint8_t, kRequestSize> encode_request(const TransactionId& id);

struct Mapped {
  TransactionId id;
  Endpoint endpoint;
};
/// The client's side: reads a success response.
[[nodiscard]] Result<Mapped> parse_response(std::span<const std::uint8_t> datagram);

}  // namespace detour::stun
