#include "crypto/shared_key_cache.h"

#include <sodium.h>

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

std::size_t SharedKeyCache::Hash::operator()(const NodePublic& peer) const {
  static_assert(sizeof(std::size_t) == crypto_shorthash_BYTES);
  std::array<std::uint8_t, crypto_shorthash_BYTES> hash;
  crypto_shorthash(hash.data(), peer.bytes().data(), peer.bytes().size(), seed.data());
  return std::bit_cast<std::size_t>(hash);
}

SharedKeyCache::SharedKeyCache(std::size_t capacity)
    : capacity_(capacity), keys_(0, Hash{.seed = random_seed()}) {
  DETOUR_CHECK(capacity > 0);
}

std::optional<SharedKey> SharedKeyCache::find(const NodePublic& peer) const {
  const std::lock_guard lock(mutex_);
  const auto found = keys_.find(peer);
  if (found == keys_.end()) return std::nullopt;
  return found->second;
}

void SharedKeyCache::remember(const NodePublic& peer, const SharedKey& key) {
  const std::lock_guard lock(mutex_);
  if (!keys_.try_emplace(peer, key).second) return;
  if (oldest_first_.size() < capacity_) {
    oldest_first_.push_back(peer);
    return;
  }
  keys_.erase(oldest_first_[oldest_]);
  oldest_first_[oldest_] = peer;
  oldest_ = (oldest_ + 1) % capacity_;
}

std::size_t SharedKeyCache::size() const {
  const std::lock_guard lock(mutex_);
  return keys_.size();
}

}  // namespace detour::crypto
