#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

#include "base/clock.h"
#include "base/quiescent.h"
#include "base/token_bucket.h"
#include "crypto/keys.h"
#include "derp/frame.h"

namespace detour::relay {

struct KeyEntry;

/// Numbers connections since start; never reused, so a stale id finds nobody.
using ClientId = std::uint64_t;

/// That a client came or left, as a mesh peer that watches is told.
struct WatchEvent {
  crypto::NodePublic key;
  bool present = false;
  // For a client that came:
  std::array<std::uint8_t, derp::kIpSize> address{};
  std::uint16_t port = 0;
  std::uint8_t flags = 0;
  std::uint8_t app_name_size = 0;
  std::array<char, derp::kAppNameSizeMax> app_name{};
};

/// What the relay logic knows of one logged-in connection, or of a link to a mesh peer, which takes
/// the packets for that peer's clients. The server derives both from it.
///
/// Created and destroyed by the worker that reads it. Other workers may hold a pointer during a
/// turn: see Quiescence.
class Client : public Retirable {
 public:
  /// Identity, set once at login and constant from then on.
  struct Identity {
    ClientId id = 0;
    crypto::NodePublic key;
    bool is_mesh_peer = false;
    bool is_not_ideal = false;
    bool is_prober = false;
    /// We dialled it: it is no client of ours but the way to those of another relay.
    bool is_mesh_link = false;
    std::string app_name{};
    std::int64_t version = 0;  ///< Of the protocol, as the client says.
    TimePoint connected_at{};
    /// Where it came from, IPv4 as ::ffff:a.b.c.d; what mesh peers are told.
    std::array<std::uint8_t, derp::kIpSize> address{};
    std::uint16_t port = 0;
  };

  [[nodiscard]] const Identity& identity() const { return identity_; }
  [[nodiscard]] ClientId id() const { return identity_.id; }
  [[nodiscard]] const crypto::NodePublic& key() const { return identity_.key; }

  /// At login, before the client enters the directory.
  void set_identity(Identity identity) { identity_ = std::move(identity); }

  /// Packets that came from this client, and those of them that could go nowhere. Plain numbers:
  /// they belong to the reading side.
  struct Received {
    std::uint64_t packets = 0;
    std::uint64_t bytes = 0;         ///< Payload only.
    std::uint64_t unknown_dest = 0;  ///< Packets for keys that are not here.
  };
  // For the worker that reads this client:
  [[nodiscard]] const Received& received() const { return received_; }
  /// It calls this relay its home.
  [[nodiscard]] bool is_home() const { return preferred_; }
  /// Another connection has the same key.
  [[nodiscard]] bool is_duplicate() const { return is_duplicate_.load(std::memory_order_relaxed); }

 private:
  friend class Directory;
  friend class Router;

  /// PeerGone(NotHere) answers: one a second, three at once (server-behaviour: PeerGone).
  static constexpr double kNotHerePerSecond = 1.0;
  static constexpr double kNotHereBurst = 3.0;

  /// What only mesh peers need, so that other clients do not pay for it.
  struct MeshState {
    // Reading side: hashes of (source, destination connection) pairs whose first packet was noted
    // in the directory, and what the directory said when that began.
    std::unordered_set<std::uint64_t> noted;
    std::uint64_t noted_generation = 0;
    TimePoint noted_since{};

    // Guarded by the directory's mutex.
    bool is_watcher = false;
    bool fell_behind = false;
    std::vector<WatchEvent> events;  ///< Still to be told, oldest first, behind `events_taken`.
    std::size_t events_taken = 0;
    std::unordered_set<KeyEntry*> reaches;  ///< Of a mesh link: the keys it leads to.
  };
  /// At login, for mesh peers and links.
  [[nodiscard]] MeshState& mesh_state() {
    if (!mesh_) mesh_ = std::make_unique<MeshState>();
    return *mesh_;
  }

  Identity identity_;
  std::unique_ptr<MeshState> mesh_;

  // Reading side: touched only by the worker that reads this client.
  bool preferred_ = false;
  Received received_;
  TokenBucket not_here_{kNotHerePerSecond, kNotHereBurst};
  /// Connections that were sent a packet of this one, to be told when its key leaves.
  std::unordered_set<ClientId> delivered_to_;
  std::size_t delivered_to_prune_at_ = 1024;

  /// Whether another connection has the same key. Set by the directory, read by the reading side.
  std::atomic<bool> is_duplicate_{false};
  /// Guarded by the directory's mutex; null when not registered.
  KeyEntry* entry_ = nullptr;
};

}  // namespace detour::relay
