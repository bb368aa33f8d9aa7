#include "crypto/shared_key_cache.h"

#include <sodium.h>

#include <algorithm>
#include <bit>

#include "base/check.h"

namespace detour::crypto {

namespace {

std::array<std::uint8_t, crypto_shorthash_KEYBYTES> random_seed() {
  std::array<std::uint8_t, crypto_shorthash_KEYBYTES> seed;
  random_bytes(seed);
  return seed;
}

}  // namespace

SharedKeyCache::SharedKeyCache(std::size_t sets) : seed_(random_seed()), set_count_(sets) {
  DETOUR_CHECK(sets > 0);
}

std::size_t SharedKeyCache::set_of(const NodePublic& peer) const {
  std::array<std::uint8_t, crypto_shorthash_BYTES> hash;
  crypto_shorthash(hash.data(), peer.bytes().data(), peer.bytes().size(), seed_.data());
  return std::bit_cast<std::uint64_t>(hash) % set_count_;
}

std::optional<SharedKey> SharedKeyCache::find(const NodePublic& peer) const {
  const std::size_t index = set_of(peer);
  const std::lock_guard lock(mutex_);
  if (sets_.empty()) return std::nullopt;
  for (const Entry& entry : sets_[index]) {
    if (entry.key && entry.peer == peer) return entry.key;
  }
  return std::nullopt;
}

void SharedKeyCache::remember(const NodePublic& peer, const SharedKey& key) {
  const std::size_t index = set_of(peer);
  const std::lock_guard lock(mutex_);
  if (sets_.empty()) sets_.resize(set_count_);
  Set& set = sets_[index];
  const auto is_peer = [&peer](const Entry& entry) { return entry.key && entry.peer == peer; };
  if (std::ranges::any_of(set, is_peer)) return;
  std::ranges::rotate(set, set.end() - 1);
  set.front() = {.peer = peer, .key = key};
}

std::size_t SharedKeyCache::size() const {
  const std::lock_guard lock(mutex_);
  std::size_t size = 0;
  for (const Set& set : sets_)
    size += static_cast<std::size_t>(
        std::ranges::count_if(set, [](const Entry& entry) { return entry.key.has_value(); }));
  return size;
}

}  // namespace detour::crypto
