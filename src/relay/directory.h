#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/quiescent.h"
#include "crypto/keys.h"
#include "relay/client.h"

namespace detour::relay {

/// All connections of one node key. Retired when the last of them leaves.
struct KeyEntry final : Retirable {
  crypto::NodePublic key;
  std::uint64_t hash = 0;
  /// The connection that receives what is sent to the key. Read without a lock.
  std::atomic<Client*> active{nullptr};

  // Guarded by the directory's mutex.
  std::vector<Client*> connections;
  /// Connections in the order in which they spoke, each at most once: the last one inherits.
  std::vector<Client*> history;
  /// Inherited from duplicates that left: who was sent a packet from this key.
  std::unordered_set<ClientId> delivered_to;
};

/// Which client a node key reaches.
///
/// find() is read on every packet: lock-free, wait-free apart from hash collisions, and safe for a
/// worker that is online (Quiescence). Everything else happens at login and logout under one mutex.
/// A per-process random seed keeps keys that were chosen to collide from doing so.
///
/// Duplicates follow the last-writer policy: the newest connection of a key receives, then
/// whichever spoke last; the others stay open (server-behaviour: Registry and duplicate keys).
class Directory {
 public:
  explicit Directory(Quiescence& quiescence);
  ~Directory();
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;

  /// The connection that receives what is sent to `key`, or null. Valid until the calling worker
  /// goes offline.
  [[nodiscard]] Client* find(const crypto::NodePublic& key) const;

  /// Makes `client` findable, as the active connection of its key.
  void add(Client& client);

  /// Who has to hear that a key left the region.
  struct Departure {
    bool key_left = false;  ///< The last connection of the key is gone.
    std::vector<ClientId> delivered_to;
  };
  /// Makes `client` unfindable. Call on the worker that reads it; retire it afterwards.
  [[nodiscard]] Departure remove(Client& client);

  /// Notes that a duplicate spoke: it becomes the active connection of its key.
  void spoke(Client& client);

  /// The connections with these ids that are still there. Valid until the caller goes offline.
  [[nodiscard]] std::vector<Client*> find_ids(const std::vector<ClientId>& ids) const;
  /// Removes from `ids` all that are no longer there.
  void keep_present(std::unordered_set<ClientId>& ids) const;

  [[nodiscard]] ClientId next_id() { return next_id_.fetch_add(1, std::memory_order_relaxed); }

  struct Counts {
    std::size_t keys = 0;
    std::size_t connections = 0;
    std::size_t duplicate_keys = 0;
    std::size_t duplicate_connections = 0;
    std::uint64_t duplicate_connections_total = 0;  ///< Since start.
  };
  [[nodiscard]] Counts counts() const;

 private:
  struct Table final : Retirable {
    explicit Table(std::size_t capacity)
        : mask(capacity - 1), slots(std::make_unique<std::atomic<KeyEntry*>[]>(capacity)) {}
    std::size_t mask;
    std::unique_ptr<std::atomic<KeyEntry*>[]> slots;
  };

  [[nodiscard]] std::uint64_t hash(const crypto::NodePublic& key) const;
  [[nodiscard]] KeyEntry* find_entry(const Table& table, const crypto::NodePublic& key,
                                     std::uint64_t hash) const;
  void insert_entry(KeyEntry* entry);
  void erase_entry(KeyEntry* entry);
  void rebuild(std::size_t capacity);

  Quiescence& quiescence_;
  std::array<std::uint64_t, 4> seed_;
  std::atomic<Table*> table_;
  std::atomic<ClientId> next_id_{1};

  mutable std::mutex mutex_;
  std::size_t slots_used_ = 0;  ///< Entries and tombstones.
  std::size_t entries_ = 0;
  std::unordered_map<ClientId, Client*> by_id_;
  std::size_t duplicate_keys_ = 0;
  std::size_t duplicate_connections_ = 0;
  std::uint64_t duplicate_connections_total_ = 0;
};

}  // namespace detour::relay
