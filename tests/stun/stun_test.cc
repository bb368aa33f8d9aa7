#include "stun/stun.h"

#include <gtest/gtest.h>

#include <numeric>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "support/hex.h"

namespace detour::stun {
namespace {

using Ipv4 = std::array<std::uint8_t, 4>;
using Ipv6 = std::array<std::uint8_t, 16>;

// Golden datagrams are those of docs/protocol.md, STUN, computed there for transaction id 10..1b.
constexpr std::string_view kHeaderHex = "000100142112a442101112131415161718191a1b";
constexpr std::string_view kSoftwareHex = "802200087461696c6e6f6465";
constexpr std::string_view kFingerprintHex = "80280004ac276261";
constexpr std::string_view kResponseIpv4Hex =
    "0101000c2112a442101112131415161718191a1b 00200008000183bbea12d545";
constexpr std::string_view kResponseIpv6Hex =
    "010100182112a442101112131415161718191a1b 00200014000283bb0113a9fa101112131415161718191a1a";
/// What derper sends to IPv4 clients of a dual-stack socket: an IPv4-mapped IPv6 address.
constexpr std::string_view kResponseMappedHex =
    "010100182112a442101112131415161718191a1b 00200014000283bb2112a442101112131415e9e8d3196b1c";

constexpr Ipv4 kIpv4 = {203, 0, 113, 7};
constexpr Ipv6 kIpv6 = {0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
constexpr Ipv6 kMappedIpv4 = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 203, 0, 113, 7};
constexpr std::uint16_t kPort = 41641;

TransactionId golden_id() {
  TransactionId id;
  std::iota(id.begin(), id.end(), std::uint8_t{0x10});
  return id;
}

std::string golden_request_hex() {
  return std::string(kHeaderHex) + std::string(kSoftwareHex) + std::string(kFingerprintHex);
}

/// CRC-32 bit by bit, so that the one under test is not checked against itself.
std::uint32_t slow_crc32(std::span<const std::uint8_t> bytes) {
  std::uint32_t crc = 0xffffffff;
  for (const std::uint8_t byte : bytes) {
    crc ^= byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0xedb88320U : 0U);
  }
  return ~crc;
}

/// A request with these attributes behind the golden header, and a right fingerprint at its end.
std::vector<std::uint8_t> with_fingerprint(std::string_view attributes_hex) {
  auto datagram = test::unhex(std::string(kHeaderHex) + std::string(attributes_hex));
  std::array<std::uint8_t, 4> fingerprint;
  write_be32(fingerprint, slow_crc32(datagram) ^ 0x5354554e);
  for (const std::uint8_t byte : test::unhex("80280004")) datagram.push_back(byte);
  datagram.insert(datagram.end(), fingerprint.begin(), fingerprint.end());
  return datagram;
}

TEST(EncodeRequest, IsTheGoldenRequest) {
  EXPECT_EQ(test::hex(encode_request(golden_id())), golden_request_hex());
}

TEST(ParseRequest, GivesTheTransactionIdOfTheGoldenRequest) {
  EXPECT_EQ(parse_request(test::unhex(golden_request_hex())), golden_id());
}

TEST(ParseRequest, RefusesEveryTruncation) {
  const auto request = test::unhex(golden_request_hex());
  for (std::size_t size = 0; size < request.size(); ++size) {
    EXPECT_FALSE(parse_request(std::span(request).first(size)).has_value()) << size;
  }
}

TEST(ParseRequest, RefusesEveryFlippedBit) {
  const auto golden = test::unhex(golden_request_hex());
  for (std::size_t i = 0; i < golden.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      auto request = golden;
      request[i] = static_cast<std::uint8_t>(request[i] ^ (1U << bit));
      EXPECT_FALSE(parse_request(request).has_value()) << "byte " << i << " bit " << bit;
    }
  }
}

TEST(ParseRequest, AcceptsAndRefusesAsTheReference) {
  struct Case {
    std::string_view name;
    std::vector<std::uint8_t> datagram;
    std::optional<ErrorCode> expected;
  };
  using enum ErrorCode;
  const std::string software(kSoftwareHex);
  const std::string header(kHeaderHex);
  const std::string fingerprint(kFingerprintHex);
  const Case kCases[] = {
      {"another attribute in front", with_fingerprint("0006000361626300" + software), {}},
      {"another attribute behind the software", with_fingerprint(software + "00060000"), {}},
      {"software twice, one of them ours", with_fingerprint("80220003616263ff" + software), {}},
      {"a fingerprint of another length before the last",
       with_fingerprint(software + "80280003aabbcc00"),
       {}},
      {"empty datagram", {}, kStunNotBindingRequest},
      {"header alone", test::unhex(header), kStunNotTailscale},
      {"a success response", test::unhex(kResponseIpv4Hex), kStunNotBindingRequest},
      {"wrong cookie", test::unhex("000100142112a443101112131415161718191a1b"),
       kStunNotBindingRequest},
      {"no software", with_fingerprint(""), kStunNotTailscale},
      {"other software", with_fingerprint("802200087461696c6e6f6466"), kStunNotTailscale},
      {"software longer", with_fingerprint("802200097461696c6e6f646573000000"), kStunNotTailscale},
      {"no fingerprint", test::unhex(header + software), kStunFingerprintInvalid},
      {"fingerprint wrong", test::unhex(header + software + "80280004ac276260"),
       kStunFingerprintInvalid},
      {"fingerprint not last", test::unhex(header + software + fingerprint + "00060000"),
       kStunFingerprintInvalid},
      {"fingerprint of three bytes", test::unhex(header + software + "80280003ac276200"),
       kStunFingerprintInvalid},
      {"attribute longer than the datagram", test::unhex(header + "80220009" + "7461696c6e6f6465"),
       kStunAttributesMalformed},
      {"padding cut off", test::unhex(header + "80220007" + "7461696c6e6f64"),
       kStunAttributesMalformed},
      {"three bytes of an attribute", test::unhex(header + "802200"), kStunAttributesMalformed},
  };
  for (const auto& [name, datagram, expected] : kCases) {
    SCOPED_TRACE(name);
    const auto id = parse_request(datagram);
    EXPECT_EQ(id.has_value(), !expected.has_value());
    if (expected && !id) {
      EXPECT_EQ(id.error().code, *expected);
    }
  }
}

TEST(ParseRequest, DoesNotLookAtTheLengthField) {
  // As in the reference; the fingerprint covers the field, so it has to be made anew.
  auto header = test::unhex(kHeaderHex);
  header[3] = 0xff;
  auto datagram = header;
  for (const std::uint8_t byte : test::unhex(kSoftwareHex)) datagram.push_back(byte);
  std::array<std::uint8_t, 4> fingerprint;
  write_be32(fingerprint, slow_crc32(datagram) ^ 0x5354554e);
  for (const std::uint8_t byte : test::unhex("80280004")) datagram.push_back(byte);
  datagram.insert(datagram.end(), fingerprint.begin(), fingerprint.end());
  EXPECT_EQ(parse_request(datagram), golden_id());
}

TEST(EncodeResponse, IsTheGoldenResponse) {
  struct Case {
    std::string_view name;
    Endpoint source;
    std::string_view expected_hex;
  };
  const Case kCases[] = {
      {"IPv4", {.address = kIpv4, .port = kPort}, kResponseIpv4Hex},
      {"IPv6", {.address = kIpv6, .port = kPort}, kResponseIpv6Hex},
      // Not derper's family 2: what a client sees must be the address of its own family.
      {"IPv4-mapped", {.address = kMappedIpv4, .port = kPort}, kResponseIpv4Hex},
  };
  for (const auto& [name, source, expected_hex] : kCases) {
    SCOPED_TRACE(name);
    const Response response = encode_response(golden_id(), source);
    EXPECT_EQ(test::hex(response.span()), test::hex(test::unhex(expected_hex)));
  }
}

TEST(ParseResponse, ReadsTheGoldenResponses) {
  struct Case {
    std::string_view name;
    std::string_view datagram_hex;
    Endpoint expected;
  };
  const Case kCases[] = {
      {"IPv4", kResponseIpv4Hex, {.address = kIpv4, .port = kPort}},
      {"IPv6", kResponseIpv6Hex, {.address = kIpv6, .port = kPort}},
      {"IPv4 as derper's dual-stack socket sends it",
       kResponseMappedHex,
       {.address = kIpv4, .port = kPort}},
      {"old attribute number",
       "0101000c2112a442101112131415161718191a1b80200008000183bbea12d545",
       {.address = kIpv4, .port = kPort}},
      {"plain address",
       "0101000c2112a442101112131415161718191a1b000100080001a2a9cb007107",
       {.address = kIpv4, .port = kPort}},
      {"masked address wins over a plain one",
       "010100182112a442101112131415161718191a1b"
       "00200008000183bbea12d5450001000800010000ffffffff",
       {.address = kIpv4, .port = kPort}},
      {"bytes behind the message",
       "0101000c2112a442101112131415161718191a1b00200008000183bbea12d545ff",
       {.address = kIpv4, .port = kPort}},
  };
  for (const auto& [name, datagram_hex, expected] : kCases) {
    SCOPED_TRACE(name);
    const auto mapped = parse_response(test::unhex(datagram_hex));
    ASSERT_TRUE(mapped.has_value());
    EXPECT_EQ(mapped->id, golden_id());
    EXPECT_EQ(mapped->endpoint, expected);
  }
}

TEST(ParseResponse, RefusesEveryTruncation) {
  for (const auto hex : {kResponseIpv4Hex, kResponseIpv6Hex}) {
    const auto response = test::unhex(hex);
    for (std::size_t size = 0; size < response.size(); ++size) {
      EXPECT_FALSE(parse_response(std::span(response).first(size)).has_value()) << size;
    }
  }
}

TEST(ParseResponse, RefusesWhatHoldsNoAddress) {
  struct Case {
    std::string_view name;
    std::string_view datagram_hex;
  };
  constexpr Case kCases[] = {
      {"a request", "000100002112a442101112131415161718191a1b"},
      {"no attribute", "010100002112a442101112131415161718191a1b"},
      {"another attribute", "010100042112a442101112131415161718191a1b00060000"},
      {"unknown family", "0101000c2112a442101112131415161718191a1b00200008000383bbea12d545"},
      {"address cut", "010100082112a442101112131415161718191a1b00200004000183bb"},
      {"IPv6 with four bytes", "0101000c2112a442101112131415161718191a1b00200008000283bbea12d545"},
      {"attribute header cut", "010100022112a442101112131415161718191a1b0020"},
  };
  for (const auto& [name, datagram_hex] : kCases) {
    SCOPED_TRACE(name);
    EXPECT_FALSE(parse_response(test::unhex(datagram_hex)).has_value());
  }
}

TEST(Messages, SurviveARoundTrip) {
  const TransactionId id = {0, 0xff, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0x80};
  EXPECT_EQ(parse_request(encode_request(id)), id);
  const Endpoint sources[] = {{.address = Ipv4{0, 0, 0, 0}, .port = 0},
                              {.address = Ipv4{255, 255, 255, 255}, .port = 65535},
                              {.address = Ipv6{}, .port = 1},
                              {.address = kIpv6, .port = 3478}};
  for (const Endpoint& source : sources) {
    const Response response = encode_response(id, source);
    const auto mapped = parse_response(response.span());
    ASSERT_TRUE(mapped.has_value());
    EXPECT_EQ(mapped->id, id);
    EXPECT_EQ(mapped->endpoint, source);
  }
}

}  // namespace
}  // namespace detour::stun
