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

/// All connections of one node key, and the mesh links that lead to it. Retired when the last of
/// them leaves.
struct KeyEntry final : Retirable {
  crypto::NodePublic key;
  std::uint64_t hash = 0;
  /// The connection that receives what is sent to the key; without one, the mesh link that leads to
  /// it. Read without a lock.
  std::atomic<Client*> active{nullptr};

  // Guarded by the directory's mutex.
  std::vector<Client*> connections;
  /// Links to mesh peers that have the key, the longest known first: that one is used, so that
  /// packets are not reordered.
  std::vector<Client*> mesh_links;
  /// Connections in the order in which they spoke, each at most once: the last one inherits.
  std::vector<Client*> history;
  /// Inherited from duplicates that left: who was sent a packet from this key.
  std::unordered_set<ClientId> delivered_to;
};

/// Which client a node key reaches.
///
/// A key may be here, with mesh peers, or both; a connection of our own always wins. Mesh peers
/// that watch are told of every connection that comes and every key that leaves us; the events wait
/// here until their worker takes them.
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

  /// Events that wait for one watcher. Far more than a flood of all clients; a watcher that is
  /// behind by more has to begin anew.
  static constexpr std::size_t kWatchEventsMax = 1'000'000;
  /// Pairs of a mesh peer's client and the connection it sent to, to be told when the former
  /// leaves.
  static constexpr std::size_t kForwardedPairsMax = 131'072;

  /// The connection or mesh link that takes what is sent to `key`, or null. Valid until the calling
  /// worker goes offline.
  [[nodiscard]] Client* find(const crypto::NodePublic& key) const;

  /// Watchers for whom events wait that were not waiting before: their workers have to take them.
  /// Valid until the calling worker goes offline.
  using Woken = std::vector<Client*>;

  /// Makes `client` findable, as the active connection of its key.
  [[nodiscard]] Woken add(Client& client);

  /// Who has to hear that a key left.
  struct Departure {
    bool key_left = false;  ///< Neither a connection nor a mesh link leads to the key any more.
    std::vector<ClientId> delivered_to{};
    Woken woken{};
  };
  /// Makes `client` unfindable. Call on the worker that reads it; retire it afterwards.
  [[nodiscard]] Departure remove(Client& client);

  /// Notes that a duplicate spoke: it becomes the active connection of its key.
  void spoke(Client& client);

  // Mesh peers that watch us (WatchConns).

  /// From now on `watcher` is told of who is here, who comes and who leaves: an event for each key
  /// first. Asked again, the events for all keys come again. Call on the worker that reads it.
  void watch(Client& watcher);

  struct WatchEvents {
    bool more = false;         ///< Others wait still.
    bool fell_behind = false;  ///< Events were lost: the watcher has to be closed.
  };
  /// Moves up to `count_max` events for `watcher`, in order, to the end of `out`.
  [[nodiscard]] WatchEvents take_watch_events(Client& watcher, std::size_t count_max,
                                              std::vector<WatchEvent>& out);

  // Links to mesh peers, and whom they lead to.

  /// Notes that `link` leads to `key`.
  void add_mesh_key(Client& link, const crypto::NodePublic& key);
  /// Notes that it does so no longer.
  [[nodiscard]] Departure remove_mesh_key(Client& link, const crypto::NodePublic& key);
  struct KeyDeparture {
    crypto::NodePublic key;
    Departure departure;
  };
  /// Makes `link` unfindable: it leads nowhere any more. Gives the keys that left with it.
  [[nodiscard]] std::vector<KeyDeparture> remove_mesh_link(Client& link);

  /// Notes that `destination` was sent a packet that `mesh_peer` forwarded from `source`, so that
  /// it hears when `source` leaves. For each packet, by the worker that reads `mesh_peer`; takes
  /// the mutex only for pairs that are new or were not noted for a while in which keys left.
  void note_forwarded(Client& mesh_peer, const crypto::NodePublic& source,
                      const Client& destination, TimePoint now);

  /// All connections of `key`. Valid until the caller goes offline.
  [[nodiscard]] std::vector<Client*> connections_of(const crypto::NodePublic& key) const;

  /// The connections with these ids that are still there. Valid until the caller goes offline.
  [[nodiscard]] std::vector<Client*> find_ids(const std::vector<ClientId>& ids) const;
  /// Removes from `ids` all that are no longer there.
  void keep_present(std::unordered_set<ClientId>& ids) const;

  [[nodiscard]] ClientId next_id() { return next_id_.fetch_add(1, std::memory_order_relaxed); }

  struct Counts {
    std::size_t keys = 0;         ///< That have a connection here.
    std::size_t remote_keys = 0;  ///< That mesh peers alone have.
    std::size_t connections = 0;
    std::size_t watchers = 0;
    std::size_t duplicate_keys = 0;
    std::size_t duplicate_connections = 0;
    // Since start:
    std::uint64_t duplicate_connections_total = 0;
    std::uint64_t second_mesh_links = 0;      ///< A key with one mesh link got a second.
    std::uint64_t last_mesh_links = 0;        ///< A key with several was left with one.
    std::uint64_t strange_mesh_removals = 0;  ///< A mesh peer took back what it had not given.
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
  [[nodiscard]] KeyEntry& entry_for(const crypto::NodePublic& key);
  void insert_entry(KeyEntry* entry);
  void erase_entry(KeyEntry* entry);
  void rebuild(std::size_t capacity);
  [[nodiscard]] Departure depart(KeyEntry& entry);
  [[nodiscard]] Departure drop_mesh_link(KeyEntry& entry, Client& link);
  void tell(Client& watcher, const WatchEvent& event, Woken* woken);
  [[nodiscard]] Woken tell_watchers(const WatchEvent& event);
  void forget_absent_pairs();

  Quiescence& quiescence_;
  std::array<std::uint64_t, 4> seed_;
  std::atomic<Table*> table_;
  std::atomic<ClientId> next_id_{1};

  mutable std::mutex mutex_;
  std::size_t slots_used_ = 0;  ///< Entries and tombstones.
  std::size_t entries_ = 0;
  std::size_t local_keys_ = 0;  ///< Entries with a connection.
  std::unordered_map<ClientId, Client*> by_id_;
  std::vector<Client*> watchers_;
  /// By the hash of a source key: which connections mesh peers' packets from it went to.
  std::unordered_map<std::uint64_t, std::unordered_set<ClientId>> forwarded_to_;
  std::size_t forwarded_pairs_ = 0;
  std::size_t removals_since_sweep_ = 0;
  /// Counts up when forwarded_to_ forgets a key: what was noted has to be noted anew.
  std::atomic<std::uint64_t> forgotten_{0};
  std::size_t duplicate_keys_ = 0;
  std::size_t duplicate_connections_ = 0;
  std::uint64_t duplicate_connections_total_ = 0;
  std::uint64_t second_mesh_links_ = 0;
  std::uint64_t last_mesh_links_ = 0;
  std::uint64_t strange_mesh_removals_ = 0;
};

}  // namespace detour::relay
