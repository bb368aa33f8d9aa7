#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <unordered_set>

#include "base/clock.h"
#include "base/quiescent.h"
#include "base/token_bucket.h"
#include "crypto/keys.h"

namespace detour::relay {

struct KeyEntry;

/// Numbers connections since start; never reused, so a stale id finds nobody.
using ClientId = std::uint64_t;

/// What the relay logic knows of one logged-in connection. The server derives its connection from
/// it.
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
    std::string app_name;
    TimePoint connected_at{};
  };

  [[nodiscard]] const Identity& identity() const { return identity_; }
  [[nodiscard]] ClientId id() const { return identity_.id; }
  [[nodiscard]] const crypto::NodePublic& key() const { return identity_.key; }

  /// At login, before the client enters the directory.
  void set_identity(Identity identity) { identity_ = std::move(identity); }

 private:
  friend class Directory;
  friend class Router;

  /// PeerGone(NotHere) answers: one a second, three at once (server-behaviour: PeerGone).
  static constexpr double kNotHerePerSecond = 1.0;
  static constexpr double kNotHereBurst = 3.0;

  Identity identity_;

  // Reading side: touched only by the worker that reads this client.
  bool preferred_ = false;
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
