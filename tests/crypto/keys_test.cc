#include "crypto/keys.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <type_traits>

#include "support/hex.h"
#include "support/keys.h"

namespace detour::crypto {
namespace {

const std::string kDigits = "0faa684ed28867b97f4a6a2dee5df8ce974e76b7018e3f22a1c4cf2678570f20";

std::string upper(std::string text) {
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return std::toupper(c); });
  return text;
}

static_assert(!std::is_convertible_v<NodePrivate, NodePublic>);
static_assert(!std::is_convertible_v<NodePublic, NodePrivate>);
static_assert(!std::equality_comparable<NodePrivate>);
static_assert(!std::equality_comparable<MeshKey>);

TEST(NodePublic, GivesTheTextFormsOfTheProtocol) {
  // docs/protocol.md, Key text encodings: client A.
  const NodePublic key = test::client_a_public();
  EXPECT_EQ(key.hex(), kDigits);
  EXPECT_EQ(key.typed(), "nodekey:" + kDigits);
  EXPECT_EQ(key.short_text(), "[D6poT]");
  EXPECT_EQ(test::hex(key.bytes()), kDigits);
}

TEST(NodePublic, HasNoShortTextWhenZero) {
  EXPECT_EQ(NodePublic{}.short_text(), "");
  EXPECT_TRUE(NodePublic{}.is_zero());
  EXPECT_FALSE(test::client_a_public().is_zero());
}

TEST(NodePublic, OrdersByBytes) {
  EXPECT_LT(test::client_a_public(), test::client_b_public());
  EXPECT_GT(test::mesh_peer_public(), test::relay_public());
  EXPECT_EQ(test::relay_public(), test::relay_public());
}

TEST(KeyText, AcceptsExactlyPrefixAnd64DigitsOfEitherCase) {
  struct Case {
    std::string_view name;
    std::string text;  ///< Behind the prefix.
    bool with_prefix;
    bool accepted;
  };
  const Case kCases[] = {
      {"lower case", kDigits, true, true},
      {"upper case", upper(kDigits), true, true},
      {"no prefix", kDigits, false, false},
      {"one digit short", kDigits.substr(1), true, false},
      {"one byte short", kDigits.substr(2), true, false},
      {"one digit more", kDigits + "0", true, false},
      {"one byte more", kDigits + "00", true, false},
      {"not a digit at the end", kDigits.substr(1) + "g", true, false},
      {"not a digit in front", "x" + kDigits.substr(1), true, false},
      {"space in front", " " + kDigits, true, false},
      {"space behind", kDigits + " ", true, false},
      {"space instead of the last digit", kDigits.substr(1) + " ", true, false},
      {"NUL inside", kDigits.substr(0, 10) + std::string(1, '\0') + kDigits.substr(11), true,
       false},
      {"empty", "", true, false},
      {"nothing at all", "", false, false},
  };
  for (const auto& [name, text, with_prefix, accepted] : kCases) {
    SCOPED_TRACE(name);
    EXPECT_EQ(NodePublic::parse((with_prefix ? "nodekey:" : "") + text).has_value(), accepted);
    EXPECT_EQ(NodePrivate::parse((with_prefix ? "privkey:" : "") + text).has_value(), accepted);
  }
}

TEST(KeyText, RefusesThePrefixOfTheOtherKind) {
  EXPECT_EQ(NodePublic::parse("privkey:" + kDigits).error().code, ErrorCode::kKeyTextInvalid);
  EXPECT_EQ(NodePrivate::parse("nodekey:" + kDigits).error().code, ErrorCode::kKeyTextInvalid);
  EXPECT_FALSE(NodePublic::parse("NodeKey:" + kDigits).has_value());
}

TEST(NodePrivate, DerivesThePublicKeysOfTheProtocolExamples) {
  EXPECT_EQ(test::relay_private().public_key().typed(), test::kRelayPublic);
  EXPECT_EQ(test::client_a_private().public_key().typed(), test::kClientAPublic);
  EXPECT_EQ(test::client_b_private().public_key().typed(), test::kClientBPublic);
  EXPECT_EQ(NodePrivate::parse(test::kMeshPeerPrivate)->public_key().typed(),
            test::kMeshPeerPublic);
}

TEST(NodePrivate, KeepsALoadedKeyAsItIs) {
  // Not clamped: derper keeps it too, so the file's text survives a round trip.
  const std::string text = "privkey:" + std::string(64, 'f');
  const auto key = NodePrivate::parse(text);
  ASSERT_TRUE(key.has_value());
  EXPECT_EQ(key->typed_secret(), text);
  EXPECT_EQ(NodePrivate::from_bytes(key->secret_bytes()).typed_secret(), text);
}

TEST(NodePrivate, GeneratesClampedKeysThatDiffer) {
  ASSERT_TRUE(init());
  const NodePrivate a = NodePrivate::generate();
  const NodePrivate b = NodePrivate::generate();
  for (const auto* key : {&a, &b}) {
    const auto bytes = key->secret_bytes();
    EXPECT_EQ(bytes.front() & 0x07, 0);
    EXPECT_EQ(bytes.back() & 0xc0, 0x40);
    EXPECT_FALSE(key->is_zero());
  }
  EXPECT_NE(a.typed_secret(), b.typed_secret());
  EXPECT_TRUE(NodePrivate{}.is_zero());
}

TEST(MeshKey, AcceptsExactly64Digits) {
  struct Case {
    std::string_view name;
    std::string text;
    bool accepted;
  };
  const Case kCases[] = {
      {"64 digits", kDigits, true},
      {"upper case", upper(kDigits), true},
      {"63 digits", kDigits.substr(1), false},
      {"65 digits", kDigits + "a", false},
      {"66 digits", kDigits + "aa", false},
      {"spaces around", " " + kDigits + " ", false},
      {"with a prefix", "nodekey:" + kDigits, false},
      {"empty", "", false},
  };
  for (const auto& [name, text, accepted] : kCases) {
    SCOPED_TRACE(name);
    const auto key = MeshKey::parse(text);
    EXPECT_EQ(key.has_value(), accepted);
    if (!key) {
      EXPECT_EQ(key.error().code, ErrorCode::kMeshKeyInvalid);
    } else {
      EXPECT_EQ(key->hex_secret(), kDigits);
    }
  }
}

TEST(MeshKey, MatchesItselfAndNothingElse) {
  const MeshKey key = MeshKey::parse(kDigits).value();
  MeshKey other = MeshKey::parse(kDigits.substr(0, 63) + "1").value();
  EXPECT_TRUE(key.matches(MeshKey::parse(upper(kDigits)).value()));
  EXPECT_FALSE(key.matches(other));
  EXPECT_FALSE(other.matches(key));
}

TEST(MeshKey, NeverMatchesWhenZero) {
  const MeshKey zero = MeshKey::parse(std::string(64, '0')).value();
  EXPECT_TRUE(zero.is_zero());
  EXPECT_FALSE(zero.matches(zero));
  EXPECT_FALSE(MeshKey{}.matches(MeshKey{}));
}

TEST(Wipe, LeavesOnlyZeros) {
  std::array<std::uint8_t, 5> bytes = {1, 2, 3, 4, 5};
  wipe(bytes);
  EXPECT_EQ(bytes, (std::array<std::uint8_t, 5>{}));
}

}  // namespace
}  // namespace detour::crypto
