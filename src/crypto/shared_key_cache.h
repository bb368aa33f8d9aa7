#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
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
  /// Keys live in sets of so many; the hash of the peer says in which.
  static constexpr std::size_t kWays = 4;

  /// Keeps up to `sets` * kWays keys (at least one set), in one block of about 70 bytes each that
  /// is allocated with the first: blocks of their own would lie between those of the logins, and
  /// keep the heap from shrinking.
  explicit SharedKeyCache(std::size_t sets);
  SharedKeyCache(const SharedKeyCache&) = delete;
  SharedKeyCache& operator=(const SharedKeyCache&) = delete;
  ~SharedKeyCache() = default;

  [[nodiscard]] std::optional<SharedKey> find(const NodePublic& peer) const;
  /// Keeps `key` for a peer that has proved that it has the other half: that a box of it was
  /// opened. The one that has been in its set the longest makes room.
  void remember(const NodePublic& peer, const SharedKey& key);

  [[nodiscard]] std::size_t size() const;

 private:
  struct Entry {
    NodePublic peer;
    std::optional<SharedKey> key;  ///< Empty: a free place.
  };
  using Set = std::array<Entry, kWays>;  ///< The newest is the first.

  [[nodiscard]] std::size_t set_of(const NodePublic& peer) const;

  /// Peers choose their keys, so where one lands must not be theirs to choose.
  const std::array<std::uint8_t, 16> seed_;
  const std::size_t set_count_;
  mutable std::mutex mutex_;
  std::vector<Set> sets_;
};

}  // namespace detour::crypto
