#include "crypto/box.h"

#include <gtest/gtest.h>

#include <numeric>
#include <string_view>

#include "base/bytes.h"
#include "support/hex.h"
#include "support/keys.h"

namespace detour::crypto {
namespace {

// Nonce, tag and ciphertext of `{"version":2,"CanAckPings":true}` between relay and client A:
// docs/protocol.md, ClientInfo, computed with another implementation.
constexpr std::string_view kPlaintext = R"({"version":2,"CanAckPings":true})";
constexpr std::string_view kBox =
    "000102030405060708090a0b0c0d0e0f1011121314151617"
    "a858a062bb55fbd0e565bf952225b5e2"
    "20ae6ff32ce093a7548f0f9efd7331db8b94711fe4546f1ed0d738121d94abe3";

Nonce counting_nonce() {
  Nonce nonce;
  std::iota(nonce.begin(), nonce.end(), std::uint8_t{0});
  return nonce;
}

SharedKey client_side() {
  return SharedKey::derive(test::client_a_private(), test::relay_public()).value();
}
SharedKey relay_side() {
  return SharedKey::derive(test::relay_private(), test::client_a_public()).value();
}

TEST(SharedKey, SealsTheGoldenBox) {
  EXPECT_EQ(test::hex(client_side().seal(as_bytes(kPlaintext), counting_nonce())), kBox);
}

TEST(SharedKey, IsTheSameForBothSides) {
  EXPECT_EQ(test::hex(relay_side().seal(as_bytes(kPlaintext), counting_nonce())), kBox);
  const auto opened = relay_side().open(test::unhex(kBox));
  ASSERT_TRUE(opened.has_value());
  EXPECT_EQ(as_text(*opened), kPlaintext);
}

TEST(SharedKey, OpensWhatItSealsForAnySize) {
  const SharedKey key = relay_side();
  for (const std::size_t size : {0UL, 1UL, 63UL, 64UL, 65UL, 4096UL}) {
    const std::vector<std::uint8_t> plaintext(size, 0x5a);
    const auto box = key.seal(plaintext);
    EXPECT_EQ(box.size(), size + kBoxOverhead);
    EXPECT_EQ(key.open(box), plaintext);
  }
}

TEST(SharedKey, DrawsAFreshNonceEachTime) {
  const SharedKey key = relay_side();
  EXPECT_NE(key.seal(as_bytes(kPlaintext)), key.seal(as_bytes(kPlaintext)));
}

TEST(SharedKey, RefusesEveryTruncation) {
  const auto box = test::unhex(kBox);
  const SharedKey key = relay_side();
  for (std::size_t size = 0; size < box.size(); ++size) {
    const auto opened = key.open(std::span(box).first(size));
    ASSERT_FALSE(opened.has_value()) << size;
    EXPECT_EQ(opened.error().code, ErrorCode::kBoxInvalid);
  }
}

TEST(SharedKey, RefusesEveryFlippedByte) {
  const SharedKey key = relay_side();
  for (std::size_t i = 0; i < test::unhex(kBox).size(); ++i) {
    auto box = test::unhex(kBox);
    box[i] ^= 1;
    EXPECT_FALSE(key.open(box).has_value()) << i;
  }
}

TEST(SharedKey, RefusesAnotherPairsBox) {
  const auto key = SharedKey::derive(test::relay_private(), test::client_b_public());
  ASSERT_TRUE(key.has_value());
  EXPECT_FALSE(key->open(test::unhex(kBox)).has_value());
}

TEST(SharedKey, RefusesPeersOfLowOrder) {
  struct Case {
    std::string_view name;
    std::string_view bytes;
  };
  // The points of small order on Curve25519 (RFC 7748 section 6.1 asks to look out for them).
  constexpr Case kCases[] = {
      {"zero", "0000000000000000000000000000000000000000000000000000000000000000"},
      {"one", "0100000000000000000000000000000000000000000000000000000000000000"},
      {"order 8", "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"},
      {"other order 8", "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"},
      {"p - 1", "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"},
      {"p, that is zero", "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"},
      {"p + 1", "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"},
  };
  for (const auto& [name, bytes] : kCases) {
    SCOPED_TRACE(name);
    const auto raw = test::unhex(bytes);
    const auto peer = NodePublic::from_bytes(std::span<const std::uint8_t, kKeySize>(raw));
    const auto key = SharedKey::derive(test::relay_private(), peer);
    ASSERT_FALSE(key.has_value());
    EXPECT_EQ(key.error().code, ErrorCode::kClientKeyInvalid);
  }
}

}  // namespace
}  // namespace detour::crypto
