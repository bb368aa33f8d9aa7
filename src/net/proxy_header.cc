#include "net/proxy_header.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/bytes.h"

namespace detour::net {
namespace {

using Bytes = std::span<const std::uint8_t>;
using Parsed = Result<std::optional<ProxyHeader>>;

constexpr std::string_view kLinePrefix = "PROXY ";
constexpr std::array<std::uint8_t, 12> kSignature = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d,
                                                     0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};
constexpr std::size_t kBinaryHeadSize = 16;  ///< Signature, version and command, family, size.

// The second nibbles of bytes 13 and 14.
constexpr std::uint8_t kVersion2 = 0x20;
constexpr std::uint8_t kCommandLocal = 0x00;
constexpr std::uint8_t kCommandProxy = 0x01;
constexpr std::uint8_t kFamilyIpv4 = 0x10;
constexpr std::uint8_t kFamilyIpv6 = 0x20;
constexpr std::uint8_t kFamilyUnix = 0x30;
constexpr std::uint8_t kProtocolMax = 0x02;  ///< Unspecified, stream, datagram.

/// As far as both go.
[[nodiscard]] bool begins_like(Bytes bytes, Bytes prefix) {
  const std::size_t size = std::min(bytes.size(), prefix.size());
  return std::ranges::equal(bytes.first(size), prefix.first(size));
}

/// Takes the text up to the next space off the front; nothing when there is none.
[[nodiscard]] std::optional<std::string_view> take_word(std::string_view& rest) {
  const std::size_t end = rest.find(' ');
  if (end == std::string_view::npos) return std::nullopt;
  const std::string_view word = rest.substr(0, end);
  rest.remove_prefix(end + 1);
  return word;
}

/// 0 to 65535 without sign or leading zeros.
[[nodiscard]] std::optional<std::uint16_t> parse_port(std::string_view text) {
  if (text.empty() || text.size() > 5 || (text.size() > 1 && text.front() == '0')) {
    return std::nullopt;
  }
  std::uint32_t port = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    port = port * 10 + static_cast<std::uint32_t>(c - '0');
  }
  if (port > 0xffff) return std::nullopt;
  return static_cast<std::uint16_t>(port);
}

[[nodiscard]] Parsed invalid() {
  return fail(ErrorCode::kProxyHeaderInvalid);
}

[[nodiscard]] Parsed parse_line(Bytes bytes) {
  const auto considered = as_text(bytes.first(std::min(bytes.size(), kProxyLineMax)));
  const std::size_t end = considered.find('\n');
  if (end == std::string_view::npos) {
    if (bytes.size() >= kProxyLineMax) return invalid();
    return std::nullopt;
  }
  if (considered[end - 1] != '\r') return invalid();
  const std::size_t size = end + 1;
  std::string_view rest = considered.substr(kLinePrefix.size(), end - 1 - kLinePrefix.size());

  // Behind UNKNOWN anything may stand.
  if (rest == "UNKNOWN" || rest.starts_with("UNKNOWN ")) {
    return ProxyHeader{.source = std::nullopt, .size = size};
  }
  const auto family = take_word(rest);
  const auto source = take_word(rest);
  const auto destination = take_word(rest);
  const auto source_port = take_word(rest);
  if (!family || !source || !destination || !source_port) return invalid();
  const int wanted = *family == "TCP4" ? AF_INET : *family == "TCP6" ? AF_INET6 : AF_UNSPEC;
  const auto port = parse_port(*source_port);
  // The socket functions would stop at a NUL and take what stands before it.
  const bool has_nul = considered.substr(0, end).contains('\0');
  if (wanted == AF_UNSPEC || !port || !parse_port(rest) || source->empty() ||
      destination->empty() || has_nul) {
    return invalid();
  }
  const auto from = SocketAddress::parse(*source, *port);
  const auto to = SocketAddress::parse(*destination, 0);
  if (!from || !to || from->family() != wanted || to->family() != wanted) return invalid();
  return ProxyHeader{.source = from, .size = size};
}

template <typename Address>
[[nodiscard]] SocketAddress as_socket_address(const Address& address) {
  sockaddr_storage storage{};
  std::memcpy(&storage, &address, sizeof address);
  return SocketAddress::from(storage);
}

[[nodiscard]] Parsed parse_binary(Bytes bytes) {
  if (bytes.size() > 12) {
    const std::uint8_t command = bytes[12];
    if (command != (kVersion2 | kCommandLocal) && command != (kVersion2 | kCommandProxy)) {
      return invalid();
    }
  }
  if (bytes.size() > 13) {
    const std::uint8_t family = bytes[13] & 0xf0;
    if (family > kFamilyUnix || (bytes[13] & 0x0f) > kProtocolMax) return invalid();
  }
  if (bytes.size() < kBinaryHeadSize) return std::nullopt;
  const std::size_t body_size = read_be16(bytes.subspan<14, 2>());
  const std::size_t size = kBinaryHeadSize + body_size;
  if (size > kProxyHeaderMax) return invalid();

  const std::uint8_t family = bytes[13] & 0xf0;
  constexpr std::size_t kIpv4Size = 12;  // Two addresses, two ports.
  constexpr std::size_t kIpv6Size = 36;
  const bool is_local = (bytes[12] & 0x0f) == kCommandLocal;
  if (!is_local && ((family == kFamilyIpv4 && body_size < kIpv4Size) ||
                    (family == kFamilyIpv6 && body_size < kIpv6Size))) {
    return invalid();
  }
  if (bytes.size() < size) return std::nullopt;

  ProxyHeader header{.source = std::nullopt, .size = size};
  const Bytes body = bytes.subspan(kBinaryHeadSize, body_size);
  if (is_local) return header;
  if (family == kFamilyIpv4) {
    sockaddr_in v4{};
    v4.sin_family = AF_INET;
    std::memcpy(&v4.sin_addr, body.data(), 4);
    std::memcpy(&v4.sin_port, body.data() + 8, 2);
    header.source = as_socket_address(v4);
  } else if (family == kFamilyIpv6) {
    sockaddr_in6 v6{};
    v6.sin6_family = AF_INET6;
    std::memcpy(&v6.sin6_addr, body.data(), 16);
    std::memcpy(&v6.sin6_port, body.data() + 32, 2);
    header.source = as_socket_address(v6);
  }
  return header;
}

}  // namespace

Result<std::optional<ProxyHeader>> parse_proxy_header(Bytes bytes) {
  if (bytes.empty()) return std::nullopt;
  if (begins_like(bytes, as_bytes(kLinePrefix))) {
    if (bytes.size() < kLinePrefix.size()) return std::nullopt;
    return parse_line(bytes);
  }
  if (begins_like(bytes, kSignature)) {
    if (bytes.size() < kSignature.size()) return std::nullopt;
    return parse_binary(bytes);
  }
  return fail(ErrorCode::kProxyHeaderMissing);
}

bool looks_like_proxy_header(Bytes bytes) {
  return (bytes.size() >= kLinePrefix.size() && begins_like(bytes, as_bytes(kLinePrefix))) ||
         (bytes.size() >= kSignature.size() && begins_like(bytes, kSignature));
}

}  // namespace detour::net
