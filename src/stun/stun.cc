#include "stun/stun.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <optional>
#include <string_view>
#include <tuple>

#include "base/bytes.h"

namespace detour::stun {
namespace {

using Bytes = std::span<const std::uint8_t>;
using Ipv4 = std::array<std::uint8_t, 4>;
using Ipv6 = std::array<std::uint8_t, 16>;

// Message types (RFC 8489 section 5: method Binding, class request or success response).
constexpr std::uint16_t kBindingRequest = 0x0001;
constexpr std::uint16_t kBindingSuccess = 0x0101;
constexpr std::array<std::uint8_t, 4> kMagicCookie = {0x21, 0x12, 0xa4, 0x42};
constexpr std::uint16_t kMagicCookieHigh = 0x2112;
constexpr std::size_t kTransactionIdAt = 8;
constexpr std::size_t kTransactionIdSize = std::tuple_size_v<TransactionId>;
static_assert(kTransactionIdAt + kTransactionIdSize == kHeaderSize);

// Attribute types (RFC 8489 section 18.3, and one that servers used before it had its number).
constexpr std::uint16_t kMappedAddress = 0x0001;
constexpr std::uint16_t kXorMappedAddress = 0x0020;
constexpr std::uint16_t kXorMappedAddressOld = 0x8020;
constexpr std::uint16_t kSoftware = 0x8022;
constexpr std::uint16_t kFingerprint = 0x8028;

constexpr std::size_t kAttributeHeaderSize = 4;
constexpr std::size_t kFingerprintSize = 4;
/// What the checksum leaves out at the end of the message: the FINGERPRINT attribute.
constexpr std::size_t kFingerprintAttributeSize = kAttributeHeaderSize + kFingerprintSize;
constexpr std::uint32_t kFingerprintXor = 0x5354554e;  // "STUN", RFC 8489 section 14.7.
constexpr std::string_view kTailscaleSoftware = "tailnode";

constexpr std::uint8_t kFamilyIpv4 = 1;
constexpr std::uint8_t kFamilyIpv6 = 2;
/// Zero byte, family, port: what stands before the address in a mapped address.
constexpr std::size_t kMappedHeadSize = 4;

static_assert(kResponseSizeMax ==
              kHeaderSize + kAttributeHeaderSize + kMappedHeadSize + std::tuple_size_v<Ipv6>);
static_assert(kRequestSize == kHeaderSize + kAttributeHeaderSize + kTailscaleSoftware.size() +
                                  kFingerprintAttributeSize);

/// CRC-32 of IEEE 802.3 (reflected polynomial), one table look-up per byte.
[[nodiscard]] std::uint32_t crc32(Bytes bytes) {
  static constexpr auto kTable = [] {
    constexpr std::uint32_t kPolynomial = 0xedb88320;
    std::array<std::uint32_t, 256> table{};
    for (std::uint32_t i = 0; i < table.size(); ++i) {
      std::uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ ((value & 1) != 0 ? kPolynomial : 0);
      table[i] = value;
    }
    return table;
  }();

  std::uint32_t crc = 0xffffffff;
  for (const std::uint8_t byte : bytes) crc = (crc >> 8) ^ kTable[(crc ^ byte) & 0xff];
  return ~crc;
}

struct Attribute {
  std::uint16_t type;
  Bytes value;
};

/// Takes one attribute off the front of `rest`: type (u16), value size (u16), value, padding to a
/// multiple of four bytes. Nothing when it runs past the end.
[[nodiscard]] std::optional<Attribute> take_attribute(Bytes& rest) {
  if (rest.size() < kAttributeHeaderSize) return std::nullopt;
  const std::uint16_t type = read_be16(rest.subspan<0, 2>());
  const std::size_t size = read_be16(rest.subspan<2, 2>());
  const std::size_t padded_size = (size + 3) / 4 * 4;
  rest = rest.subspan(kAttributeHeaderSize);
  if (padded_size > rest.size()) return std::nullopt;

  const Attribute attribute{.type = type, .value = rest.first(size)};
  rest = rest.subspan(padded_size);
  return attribute;
}

/// Whether `datagram` has a header with the magic cookie and this message type.
[[nodiscard]] bool has_type(Bytes datagram, std::uint16_t type) {
  return datagram.size() >= kHeaderSize && read_be16(datagram.subspan<0, 2>()) == type &&
         std::ranges::equal(datagram.subspan<4, 4>(), kMagicCookie);
}

[[nodiscard]] TransactionId transaction_id(Bytes datagram) {
  TransactionId id;
  std::memcpy(id.data(), datagram.data() + kTransactionIdAt, id.size());
  return id;
}

/// Writes message type, size of all attributes, magic cookie and transaction id.
void write_header(std::span<std::uint8_t, kHeaderSize> out, std::uint16_t type,
                  std::size_t attributes_size, const TransactionId& id) {
  write_be16(out.subspan<0, 2>(), type);
  write_be16(out.subspan<2, 2>(), static_cast<std::uint16_t>(attributes_size));
  std::ranges::copy(kMagicCookie, out.begin() + 4);
  std::ranges::copy(id, out.begin() + kTransactionIdAt);
}

/// XORs an address with magic cookie and transaction id (RFC 8489 section 14.2); its own inverse.
template <std::size_t N>
[[nodiscard]] std::array<std::uint8_t, N> mask_address(const std::array<std::uint8_t, N>& address,
                                                       const TransactionId& id) {
  std::array<std::uint8_t, kMagicCookie.size() + kTransactionIdSize> mask;
  std::ranges::copy(id, std::ranges::copy(kMagicCookie, mask.begin()).out);

  std::array<std::uint8_t, N> masked;
  std::ranges::transform(address, mask, masked.begin(), std::bit_xor<std::uint8_t>());
  return masked;
}

/// The IPv4 address inside ::ffff:0:0/96.
[[nodiscard]] std::optional<Ipv4> unmap(const Ipv6& address) {
  constexpr std::array<std::uint8_t, 12> kPrefix = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  if (!std::equal(kPrefix.begin(), kPrefix.end(), address.begin())) return std::nullopt;
  return Ipv4{address[12], address[13], address[14], address[15]};
}

[[nodiscard]] Endpoint unmapped(const Endpoint& endpoint) {
  if (const auto* ipv6 = std::get_if<Ipv6>(&endpoint.address)) {
    if (const auto ipv4 = unmap(*ipv6)) return {.address = *ipv4, .port = endpoint.port};
  }
  return endpoint;
}

template <std::size_t N>
[[nodiscard]] Response encode_mapped(const TransactionId& id,
                                     const std::array<std::uint8_t, N>& address,
                                     std::uint16_t port) {
  constexpr std::size_t kValueSize = kMappedHeadSize + N;
  Response response{.bytes = {}, .size = kHeaderSize + kAttributeHeaderSize + kValueSize};
  const std::span<std::uint8_t, kResponseSizeMax> out = response.bytes;
  write_header(out.first<kHeaderSize>(), kBindingSuccess, kAttributeHeaderSize + kValueSize, id);

  const auto attribute = out.subspan<kHeaderSize>();
  write_be16(attribute.template subspan<0, 2>(), kXorMappedAddress);
  write_be16(attribute.template subspan<2, 2>(), static_cast<std::uint16_t>(kValueSize));
  attribute[4] = 0;
  attribute[5] = N == std::tuple_size_v<Ipv4> ? kFamilyIpv4 : kFamilyIpv6;
  write_be16(attribute.template subspan<6, 2>(), port ^ kMagicCookieHigh);
  std::ranges::copy(mask_address(address, id), attribute.begin() + 8);
  return response;
}

/// Reads zero byte, family, port (u16) and address; more bytes behind it are ignored.
[[nodiscard]] std::optional<Endpoint> read_mapped(Bytes value) {
  if (value.size() < kMappedHeadSize) return std::nullopt;
  const std::uint8_t family = value[1];
  const std::uint16_t port = read_be16(value.subspan<2, 2>());
  const auto bytes = value.subspan(kMappedHeadSize);

  const auto read_address = [&]<typename Address>(Address address) -> std::optional<Endpoint> {
    if (bytes.size() < address.size()) return std::nullopt;
    std::memcpy(address.data(), bytes.data(), address.size());
    return Endpoint{.address = address, .port = port};
  };
  if (family == kFamilyIpv4) return read_address(Ipv4{});
  if (family == kFamilyIpv6) return read_address(Ipv6{});
  return std::nullopt;
}

/// Undoes the masking of an XOR-MAPPED-ADDRESS.
[[nodiscard]] Endpoint unmask(const Endpoint& endpoint, const TransactionId& id) {
  Endpoint plain{.address = {},
                 .port = static_cast<std::uint16_t>(endpoint.port ^ kMagicCookieHigh)};
  std::visit([&](const auto& address) { plain.address = mask_address(address, id); },
             endpoint.address);
  return plain;
}

}  // namespace

Result<TransactionId> parse_request(Bytes datagram) {
  if (!has_type(datagram, kBindingRequest)) return fail(ErrorCode::kStunNotBindingRequest);

  bool from_tailscale = false;
  std::optional<Attribute> last;
  for (Bytes rest = datagram.subspan(kHeaderSize); !rest.empty();) {
    last = take_attribute(rest);
    if (!last) return fail(ErrorCode::kStunAttributesMalformed);
    from_tailscale |= last->type == kSoftware && as_text(last->value) == kTailscaleSoftware;
  }
  if (!from_tailscale) return fail(ErrorCode::kStunNotTailscale);

  if (last->type != kFingerprint || last->value.size() != kFingerprintSize) {
    return fail(ErrorCode::kStunFingerprintInvalid);
  }
  const auto summed = datagram.first(datagram.size() - kFingerprintAttributeSize);
  const std::uint32_t fingerprint = read_be32(last->value.first<kFingerprintSize>());
  if (fingerprint != (crc32(summed) ^ kFingerprintXor)) {
    return fail(ErrorCode::kStunFingerprintInvalid);
  }
  return transaction_id(datagram);
}

Response encode_response(const TransactionId& id, const Endpoint& source) {
  const Endpoint plain = unmapped(source);
  return std::visit([&](const auto& address) { return encode_mapped(id, address, plain.port); },
                    plain.address);
}

std::array<std::uint8_t, kRequestSize> encode_request(const TransactionId& id) {
  std::array<std::uint8_t, kRequestSize> request{};
  const std::span<std::uint8_t, kRequestSize> out = request;
  write_header(out.first<kHeaderSize>(), kBindingRequest, kRequestSize - kHeaderSize, id);

  const auto software = out.subspan<kHeaderSize>();
  write_be16(software.subspan<0, 2>(), kSoftware);
  write_be16(software.subspan<2, 2>(), static_cast<std::uint16_t>(kTailscaleSoftware.size()));
  std::ranges::copy(kTailscaleSoftware, software.begin() + kAttributeHeaderSize);

  const auto summed = out.first<kRequestSize - kFingerprintAttributeSize>();
  const auto fingerprint = out.last<kFingerprintAttributeSize>();
  write_be16(fingerprint.subspan<0, 2>(), kFingerprint);
  write_be16(fingerprint.subspan<2, 2>(), kFingerprintSize);
  write_be32(fingerprint.subspan<4, 4>(), crc32(summed) ^ kFingerprintXor);
  return request;
}

Result<Mapped> parse_response(Bytes datagram) {
  if (!has_type(datagram, kBindingSuccess)) return fail(ErrorCode::kStunNotBindingRequest);
  const TransactionId id = transaction_id(datagram);

  // Here the length field counts: bytes behind the message are ignored, as in the reference.
  const std::size_t attributes_size = read_be16(datagram.subspan<2, 2>());
  Bytes rest = datagram.subspan(kHeaderSize);
  if (attributes_size > rest.size()) return fail(ErrorCode::kStunAttributesMalformed);
  rest = rest.first(attributes_size);

  std::optional<Endpoint> masked;
  std::optional<Endpoint> plain;
  while (!rest.empty()) {
    const auto attribute = take_attribute(rest);
    if (!attribute) return fail(ErrorCode::kStunAttributesMalformed);
    const bool is_masked =
        attribute->type == kXorMappedAddress || attribute->type == kXorMappedAddressOld;
    if (!is_masked && attribute->type != kMappedAddress) continue;

    const auto endpoint = read_mapped(attribute->value);
    if (!endpoint) return fail(ErrorCode::kStunAttributesMalformed);
    (is_masked ? masked : plain) = endpoint;
  }
  // A server that only knows RFC 3489 sends MAPPED-ADDRESS.
  if (masked) return Mapped{.id = id, .endpoint = unmapped(unmask(*masked, id))};
  if (plain) return Mapped{.id = id, .endpoint = unmapped(*plain)};
  return fail(ErrorCode::kStunAttributesMalformed);
}

}  // namespace detour::stun
