#include "crypto/shared_key_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <thread>
#include <vector>

#include "base/bytes.h"
#include "support/keys.h"

namespace detour::crypto {
namespace {

struct Peer {
  NodePublic key;
  SharedKey shared;
};

Peer make_peer() {
  const NodePublic key = NodePrivate::generate().public_key();
  return {.key = key, .shared = SharedKey::derive(test::relay_private(), key).value()};
}

std::vector<Peer> make_peers(std::size_t count) {
  std::vector<Peer> peers;
  while (peers.size() < count) peers.push_back(make_peer());
  return peers;
}

void expect_same(const SharedKey& sealing, const SharedKey& opening) {
  EXPECT_TRUE(opening.open(sealing.seal(as_bytes("a box"))).has_value());
}

TEST(SharedKeyCache, KnowsWhomItRemembers) {
  SharedKeyCache cache(1);
  const auto peers = make_peers(2);
  EXPECT_FALSE(cache.find(peers[0].key));
  cache.remember(peers[0].key, peers[0].shared);
  ASSERT_TRUE(cache.find(peers[0].key));
  expect_same(peers[0].shared, *cache.find(peers[0].key));
  EXPECT_FALSE(cache.find(peers[1].key));
}

TEST(SharedKeyCache, TheOldestMakesRoom) {
  constexpr std::size_t kCapacity = SharedKeyCache::kWays;
  SharedKeyCache cache(1);
  const auto peers = make_peers(2 * kCapacity + 1);
  for (std::size_t i = 0; i < peers.size(); ++i) {
    cache.remember(peers[i].key, peers[i].shared);
    EXPECT_EQ(cache.size(), std::min(i + 1, kCapacity));
    for (std::size_t k = 0; k < peers.size(); ++k)
      EXPECT_EQ(cache.find(peers[k].key).has_value(), k <= i && i - k < kCapacity);
  }
}

TEST(SharedKeyCache, WhoIsThereAlreadyTakesNoSecondPlace) {
  SharedKeyCache cache(1);
  const auto peers = make_peers(2);
  cache.remember(peers[0].key, peers[0].shared);
  for (int i = 0; i < 5; ++i) cache.remember(peers[1].key, peers[1].shared);
  EXPECT_EQ(cache.size(), 2U);
  EXPECT_TRUE(cache.find(peers[0].key));
}

TEST(SharedKeyCache, UsesAllItsSets) {
  constexpr std::size_t kSets = 8;
  SharedKeyCache cache(kSets);
  for (const Peer& peer : make_peers(kSets * SharedKeyCache::kWays * 8)) {
    cache.remember(peer.key, peer.shared);
    EXPECT_TRUE(cache.find(peer.key));
  }
  EXPECT_EQ(cache.size(), kSets * SharedKeyCache::kWays);
}

TEST(SharedKeyCache, ManyThreadsAtOnce) {
  SharedKeyCache cache(2);
  const auto peers = make_peers(16);
  std::vector<std::jthread> threads;
  for (std::size_t t = 0; t < 4; ++t)
    threads.emplace_back([&cache, &peers, t] {
      for (std::size_t i = 0; i < 400; ++i) {
        const Peer& peer = peers[(i * (t + 1)) % peers.size()];
        if (const auto found = cache.find(peer.key)) {
          expect_same(peer.shared, *found);
        } else {
          cache.remember(peer.key, peer.shared);
        }
      }
    });
  threads.clear();
  EXPECT_LE(cache.size(), 2 * SharedKeyCache::kWays);
  EXPECT_GE(cache.size(), SharedKeyCache::kWays);
}

}  // namespace
}  // namespace detour::crypto
