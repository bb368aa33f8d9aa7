#include "net/x25519_pairs.h"

#include <gtest/gtest.h>

#include <set>

namespace detour::net {
namespace {

using Key = X25519Pairs::Key;

/// Batches of one, two, four and then eight pairs.
constexpr int kManyBatches = 100;

TEST(X25519Pairs, PublicKeysAreThoseOfLibsodium) {
  ASSERT_GE(sodium_init(), 0);
  X25519Pairs pairs;
  for (int i = 0; i < kManyBatches; ++i) {
    Key private_key{};
    Key public_key{};
    ASSERT_TRUE(pairs.take(private_key, public_key));
    Key expected{};
    ASSERT_EQ(crypto_scalarmult_base(expected.data(), private_key.data()), 0);
    EXPECT_EQ(public_key, expected) << "pair " << i;
  }
}

TEST(X25519Pairs, NoneIsGivenTwice) {
  ASSERT_GE(sodium_init(), 0);
  X25519Pairs pairs;
  std::set<Key> seen;
  for (int i = 0; i < kManyBatches; ++i) {
    Key private_key{};
    Key public_key{};
    ASSERT_TRUE(pairs.take(private_key, public_key));
    EXPECT_TRUE(seen.insert(private_key).second);
    EXPECT_TRUE(seen.insert(public_key).second);
  }
}

TEST(X25519Pairs, BothEndsOfAnExchangeAgree) {
  ASSERT_GE(sodium_init(), 0);
  X25519Pairs pairs;
  for (int i = 0; i < kManyBatches; ++i) {
    Key ours{};
    Key our_public{};
    Key theirs{};
    Key their_public{};
    ASSERT_TRUE(pairs.take(ours, our_public));
    randombytes_buf(theirs.data(), theirs.size());
    ASSERT_EQ(crypto_scalarmult_base(their_public.data(), theirs.data()), 0);
    Key here{};
    Key there{};
    ASSERT_EQ(crypto_scalarmult(here.data(), ours.data(), their_public.data()), 0);
    ASSERT_EQ(crypto_scalarmult(there.data(), theirs.data(), our_public.data()), 0);
    EXPECT_EQ(here, there);
  }
}

}  // namespace
}  // namespace detour::net
