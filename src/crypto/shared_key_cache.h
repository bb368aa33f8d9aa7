#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <vector>

#include "crypto/box.h"
#include "crypto/keys.h"

namespace detour::crypto {

/// The shared keys of the peers that logged in last, so that one that comes back costs no X25519.
/// They are wiped when they make room and at the end. All functions may be called from any thread.
///
/// What is in here can be computed from the relay's private key, which lies in the same memory.
/// That a known peer is answered sooner tells nobody more than the relay does anyway: it answers a
/// packet to a node that is not there with PeerGone.
class SharedKeyCache {
 public:
  /// Keeps up to `capacity` keys (at least one), about 130 bytes each, allocated as they come.
  explicit SharedKeyCache(std::size_t capacity);
  SharedKeyCache(const SharedKeyCache&) = delete;
  SharedKeyCache& operator=(const SharedKeyCache&) = delete;
  ~SharedKeyCache() = default;

  [[nodiscard]] std::optional<SharedKey> find(const NodePublic& peer) const;
  /// Keeps `key` for a peer that has proved that it has the other half: that a box of it was
  /// opened. The one that has been there the longest makes room.
  void remember(const NodePublic& peer, const SharedKey& key);

  [[nodiscard]] std::size_t size() const;

 private:
  /// Peers choose their keys, so where one lands must not be theirs to choose.
  struct Hash {
    [[nodiscard]] std::size_t operator()(const NodePublic& peer) const;
    std::array<std::uint8_t, 16> seed{};
  };

  const std::size_t capacity_;
  mutable std::mutex mutex_;
  std::unordered_map<NodePublic, SharedKey, Hash> keys_;
  std::vector<NodePublic> oldest_first_;  ///< A ring once it is full.
  std::size_t oldest_ = 0;                ///< Where the ring begins.
};

}  // namespace detour::crypto
