#include "relay/directory.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace detour::relay {

namespace {

constexpr std::size_t kCapacityInitial = 1024;

__extension__ using Wide = unsigned __int128;

/// Multiplies to 128 bits and folds the halves: mixes every input bit into every output bit.
std::uint64_t fold_multiply(std::uint64_t a, std::uint64_t b) {
  const Wide product = static_cast<Wide>(a) * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64U);
}

/// How often a mesh peer's noted pairs are noted anew while keys leave.
constexpr Duration kNoteInterval = std::chrono::seconds(1);
/// Pairs that one mesh peer's worker remembers as noted.
constexpr std::size_t kNotedMax = 65'536;
/// Memory for events that a watcher keeps when it has been told all.
constexpr std::size_t kEventsKept = 64;

std::uint8_t flags_of(const Client::Identity& identity) {
  const auto bit = [](bool set, derp::PeerFlag flag) {
    return set ? static_cast<std::uint8_t>(flag) : std::uint8_t{0};
  };
  const auto flags =
      static_cast<std::uint8_t>(bit(identity.is_prober, derp::PeerFlag::kProber) |
                                bit(identity.is_mesh_peer, derp::PeerFlag::kMeshPeer) |
                                bit(identity.is_not_ideal, derp::PeerFlag::kNotIdeal));
  return flags != 0 ? flags : static_cast<std::uint8_t>(derp::PeerFlag::kRegular);
}

WatchEvent present_event(const Client& client) {
  const Client::Identity& identity = client.identity();
  WatchEvent event{.key = identity.key,
                   .present = true,
                   .address = identity.address,
                   .port = identity.port,
                   .flags = flags_of(identity)};
  const auto size = std::min(identity.app_name.size(), event.app_name.size());
  std::copy_n(identity.app_name.begin(), size, event.app_name.begin());
  event.app_name_size = static_cast<std::uint8_t>(size);
  return event;
}

/// Marks a slot whose entry left, so that probing goes on behind it.
KeyEntry* tombstone() {
  static KeyEntry marker;
  return &marker;
}

}  // namespace

Directory::Directory(Quiescence& quiescence)
    : quiescence_(quiescence), table_(new Table(kCapacityInitial)) {
  std::array<std::uint8_t, sizeof seed_> bytes;
  crypto::random_bytes(bytes);
  std::memcpy(seed_.data(), bytes.data(), sizeof seed_);
}

Directory::~Directory() {
  const std::unique_ptr<Table> table(table_.load());
  for (std::size_t i = 0; i <= table->mask; ++i) {
    KeyEntry* const entry = table->slots[i].load();
    if (entry != nullptr && entry != tombstone()) delete entry;
  }
}

std::uint64_t Directory::hash(const crypto::NodePublic& key) const {
  std::array<std::uint64_t, 4> words;
  std::memcpy(words.data(), key.bytes().data(), sizeof words);
  return fold_multiply(fold_multiply(words[0] ^ seed_[0], words[1] ^ seed_[1]) ^ seed_[2],
                       fold_multiply(words[2] ^ seed_[2], words[3] ^ seed_[3]) ^ seed_[0]);
}

KeyEntry* Directory::find_entry(const Table& table, const crypto::NodePublic& key,
                                std::uint64_t hash) const {
  // A table is never more than half full, so the probe ends.
  for (std::size_t i = hash & table.mask;; i = (i + 1) & table.mask) {
    KeyEntry* const entry = table.slots[i].load(std::memory_order_seq_cst);
    if (entry == nullptr) return nullptr;
    if (entry != tombstone() && entry->hash == hash && entry->key == key) return entry;
  }
}

Client* Directory::find(const crypto::NodePublic& key) const {
  const Table& table = *table_.load(std::memory_order_seq_cst);
  const KeyEntry* const entry = find_entry(table, key, hash(key));
  return entry == nullptr ? nullptr : entry->active.load(std::memory_order_seq_cst);
}

void Directory::insert_entry(KeyEntry* entry) {
  if (2 * (slots_used_ + 1) > table_.load()->mask + 1) {
    std::size_t capacity = kCapacityInitial;
    while (capacity < 4 * (entries_ + 1)) capacity *= 2;
    rebuild(capacity);
  }
  Table& table = *table_.load();
  std::size_t i = entry->hash & table.mask;
  while (table.slots[i].load() != nullptr) i = (i + 1) & table.mask;
  table.slots[i].store(entry, std::memory_order_seq_cst);
  ++slots_used_;
  ++entries_;
}

void Directory::erase_entry(KeyEntry* entry) {
  Table& table = *table_.load();
  std::size_t i = entry->hash & table.mask;
  while (table.slots[i].load() != entry) i = (i + 1) & table.mask;
  table.slots[i].store(tombstone(), std::memory_order_seq_cst);
  --entries_;
  quiescence_.retire(std::unique_ptr<Retirable>(entry));
}

void Directory::rebuild(std::size_t capacity) {
  Table* const old = table_.load();
  auto fresh = std::make_unique<Table>(capacity);
  for (std::size_t i = 0; i <= old->mask; ++i) {
    KeyEntry* const entry = old->slots[i].load();
    if (entry == nullptr || entry == tombstone()) continue;
    std::size_t j = entry->hash & fresh->mask;
    while (fresh->slots[j].load(std::memory_order_relaxed) != nullptr) j = (j + 1) & fresh->mask;
    fresh->slots[j].store(entry, std::memory_order_relaxed);
  }
  slots_used_ = entries_;
  table_.store(fresh.release(), std::memory_order_seq_cst);
  quiescence_.retire(std::unique_ptr<Retirable>(old));
}

KeyEntry& Directory::entry_for(const crypto::NodePublic& key) {
  const std::uint64_t key_hash = hash(key);
  if (KeyEntry* const entry = find_entry(*table_.load(), key, key_hash)) return *entry;
  auto fresh = std::make_unique<KeyEntry>();
  fresh->key = key;
  fresh->hash = key_hash;
  KeyEntry* const entry = fresh.release();
  insert_entry(entry);
  return *entry;
}

Directory::Woken Directory::add(Client& client) {
  const std::lock_guard lock(mutex_);
  KeyEntry& entry = entry_for(client.key());
  if (entry.connections.empty()) {
    entry.history.push_back(&client);
    ++local_keys_;
  } else {
    const bool first_duplicate = entry.connections.size() == 1;
    if (first_duplicate) {
      entry.connections.front()->is_duplicate_.store(true, std::memory_order_relaxed);
      ++duplicate_keys_;
    }
    duplicate_connections_ += first_duplicate ? 2 : 1;
    ++duplicate_connections_total_;
    client.is_duplicate_.store(true, std::memory_order_relaxed);
    // The second connection of a key enters the history only when it speaks, later ones at once:
    // that is how the reference chooses the heir, so duplicates fail over alike on both.
    if (!first_duplicate) entry.history.push_back(&client);
  }
  entry.active.store(&client, std::memory_order_seq_cst);
  entry.connections.push_back(&client);
  client.entry_ = &entry;
  by_id_.emplace(client.id(), &client);
  return tell_watchers(present_event(client));
}

Directory::Departure Directory::remove(Client& client) {
  const std::lock_guard lock(mutex_);
  KeyEntry* const entry = client.entry_;
  DETOUR_CHECK(entry != nullptr);
  client.entry_ = nullptr;
  by_id_.erase(client.id());
  if (client.mesh_ && client.mesh_->is_watcher) std::erase(watchers_, &client);
  ++removals_since_sweep_;
  std::erase(entry->connections, &client);
  std::erase(entry->history, &client);
  entry->delivered_to.merge(client.delivered_to_);

  if (entry->connections.empty()) {
    --local_keys_;
    Woken woken = tell_watchers({.key = entry->key, .present = false});
    Departure departure;
    if (entry->mesh_links.empty()) {
      departure = depart(*entry);
    } else {
      // It moved to a mesh peer, and is reached there from now on.
      entry->active.store(entry->mesh_links.front(), std::memory_order_seq_cst);
    }
    departure.woken = std::move(woken);
    return departure;
  }
  if (entry->connections.size() == 1) {
    Client* const survivor = entry->connections.front();
    survivor->is_duplicate_.store(false, std::memory_order_relaxed);
    --duplicate_keys_;
    duplicate_connections_ -= 2;
    entry->history = {survivor};
    entry->active.store(survivor, std::memory_order_seq_cst);
    return {};
  }
  --duplicate_connections_;
  if (entry->active.load() == &client) {
    Client* const heir = entry->history.empty() ? entry->connections.back() : entry->history.back();
    entry->active.store(heir, std::memory_order_seq_cst);
  }
  return {};
}

Directory::Departure Directory::depart(KeyEntry& entry) {
  Departure departure{.key_left = true};
  if (const auto it = forwarded_to_.find(entry.hash); it != forwarded_to_.end()) {
    forwarded_pairs_ -= it->second.size();
    entry.delivered_to.merge(it->second);
    forwarded_to_.erase(it);
    forgotten_.fetch_add(1, std::memory_order_relaxed);
  }
  departure.delivered_to.assign(entry.delivered_to.begin(), entry.delivered_to.end());
  entry.active.store(nullptr, std::memory_order_seq_cst);
  erase_entry(&entry);
  return departure;
}

// --- Watchers

void Directory::watch(Client& watcher) {
  const std::lock_guard lock(mutex_);
  if (watcher.entry_ == nullptr) return;
  const Table& table = *table_.load();
  for (std::size_t i = 0; i <= table.mask; ++i) {
    const KeyEntry* const entry = table.slots[i].load(std::memory_order_relaxed);
    if (entry == nullptr || entry == tombstone() || entry->connections.empty()) continue;
    tell(watcher, present_event(*entry->active.load()), nullptr);
  }
  Client::MeshState& mesh = watcher.mesh_state();
  if (!std::exchange(mesh.is_watcher, true)) watchers_.push_back(&watcher);
}

void Directory::tell(Client& watcher, const WatchEvent& event, Woken* woken) {
  Client::MeshState& mesh = watcher.mesh_state();
  if (mesh.fell_behind) return;
  if (mesh.events.size() - mesh.events_taken >= kWatchEventsMax) {
    mesh.fell_behind = true;
    mesh.events = {};
    mesh.events_taken = 0;
    if (woken != nullptr) woken->push_back(&watcher);
    return;
  }
  if (mesh.events.empty() && woken != nullptr) woken->push_back(&watcher);
  mesh.events.push_back(event);
}

Directory::Woken Directory::tell_watchers(const WatchEvent& event) {
  Woken woken;
  for (Client* const watcher : watchers_) tell(*watcher, event, &woken);
  return woken;
}

Directory::WatchEvents Directory::take_watch_events(Client& watcher, std::size_t count_max,
                                                    std::vector<WatchEvent>& out) {
  const std::lock_guard lock(mutex_);
  Client::MeshState& mesh = watcher.mesh_state();
  if (mesh.fell_behind) return {.fell_behind = true};
  const std::size_t count = std::min(count_max, mesh.events.size() - mesh.events_taken);
  const auto begin = mesh.events.begin() + static_cast<std::ptrdiff_t>(mesh.events_taken);
  out.insert(out.end(), begin, begin + static_cast<std::ptrdiff_t>(count));
  mesh.events_taken += count;
  if (mesh.events_taken != mesh.events.size()) {
    if (mesh.events_taken >= mesh.events.size() / 2) {
      mesh.events.erase(mesh.events.begin(),
                        mesh.events.begin() + static_cast<std::ptrdiff_t>(mesh.events_taken));
      mesh.events_taken = 0;
    }
    return {.more = true};
  }
  mesh.events.clear();
  mesh.events_taken = 0;
  if (mesh.events.capacity() > kEventsKept) mesh.events.shrink_to_fit();
  return {};
}

// --- Links to mesh peers

void Directory::add_mesh_key(Client& link, const crypto::NodePublic& key) {
  const std::lock_guard lock(mutex_);
  KeyEntry& entry = entry_for(key);
  if (!link.mesh_state().reaches.insert(&entry).second) return;
  entry.mesh_links.push_back(&link);
  if (entry.mesh_links.size() == 2) ++second_mesh_links_;
  if (entry.connections.empty())
    entry.active.store(entry.mesh_links.front(), std::memory_order_seq_cst);
}

Directory::Departure Directory::remove_mesh_key(Client& link, const crypto::NodePublic& key) {
  const std::lock_guard lock(mutex_);
  KeyEntry* const entry = find_entry(*table_.load(), key, hash(key));
  if (entry == nullptr) return {};
  if (link.mesh_state().reaches.erase(entry) == 0) {
    // As the reference counts: not where several links lead to the key.
    if (entry->mesh_links.size() < 2) ++strange_mesh_removals_;
    return {};
  }
  return drop_mesh_link(*entry, link);
}

std::vector<Directory::KeyDeparture> Directory::remove_mesh_link(Client& link) {
  std::vector<KeyDeparture> departures;
  const std::lock_guard lock(mutex_);
  for (KeyEntry* const entry : std::exchange(link.mesh_state().reaches, {})) {
    const crypto::NodePublic key = entry->key;
    Departure departure = drop_mesh_link(*entry, link);
    if (departure.key_left) departures.push_back({.key = key, .departure = std::move(departure)});
  }
  return departures;
}

Directory::Departure Directory::drop_mesh_link(KeyEntry& entry, Client& link) {
  std::erase(entry.mesh_links, &link);
  if (entry.mesh_links.size() == 1) ++last_mesh_links_;
  if (!entry.connections.empty()) return {};
  if (entry.mesh_links.empty()) return depart(entry);
  entry.active.store(entry.mesh_links.front(), std::memory_order_seq_cst);
  return {};
}

void Directory::note_forwarded(Client& mesh_peer, const crypto::NodePublic& source,
                               const Client& destination, TimePoint now) {
  Client::MeshState& mesh = mesh_peer.mesh_state();
  const std::uint64_t generation = forgotten_.load(std::memory_order_relaxed);
  const bool stale = generation != mesh.noted_generation && now - mesh.noted_since >= kNoteInterval;
  if (stale || mesh.noted.size() >= kNotedMax) {
    mesh.noted.clear();
    mesh.noted_generation = generation;
    mesh.noted_since = now;
  }
  const std::uint64_t source_hash = hash(source);
  const std::uint64_t pair = fold_multiply(source_hash ^ seed_[1], destination.id() ^ seed_[3]);
  if (!mesh.noted.insert(pair).second) return;

  const std::lock_guard lock(mutex_);
  // A sweep costs, so enough has to have left since the one before.
  if (forwarded_pairs_ >= kForwardedPairsMax && removals_since_sweep_ > by_id_.size() / 8)
    forget_absent_pairs();
  if (forwarded_pairs_ >= kForwardedPairsMax) return;
  if (forwarded_to_[source_hash].insert(destination.id()).second) ++forwarded_pairs_;
}

void Directory::forget_absent_pairs() {
  removals_since_sweep_ = 0;
  forwarded_pairs_ = 0;
  for (auto it = forwarded_to_.begin(); it != forwarded_to_.end();) {
    std::erase_if(it->second, [this](ClientId id) { return !by_id_.contains(id); });
    forwarded_pairs_ += it->second.size();
    it = it->second.empty() ? forwarded_to_.erase(it) : std::next(it);
  }
}

std::vector<Client*> Directory::connections_of(const crypto::NodePublic& key) const {
  const std::lock_guard lock(mutex_);
  const KeyEntry* const entry = find_entry(*table_.load(), key, hash(key));
  return entry == nullptr ? std::vector<Client*>() : entry->connections;
}

void Directory::spoke(Client& client) {
  if (!client.is_duplicate_.load(std::memory_order_relaxed)) return;
  const std::lock_guard lock(mutex_);
  KeyEntry* const entry = client.entry_;
  if (entry == nullptr) return;
  if (!entry->history.empty() && entry->history.back() == &client &&
      entry->active.load() == &client)
    return;
  std::erase(entry->history, &client);
  entry->history.push_back(&client);
  entry->active.store(&client, std::memory_order_seq_cst);
}

std::vector<Client*> Directory::find_ids(const std::vector<ClientId>& ids) const {
  std::vector<Client*> found;
  const std::lock_guard lock(mutex_);
  for (const ClientId id : ids) {
    if (const auto it = by_id_.find(id); it != by_id_.end()) found.push_back(it->second);
  }
  return found;
}

void Directory::keep_present(std::unordered_set<ClientId>& ids) const {
  const std::lock_guard lock(mutex_);
  std::erase_if(ids, [&](ClientId id) { return !by_id_.contains(id); });
}

Directory::Counts Directory::counts() const {
  const std::lock_guard lock(mutex_);
  return {.keys = local_keys_,
          .remote_keys = entries_ - local_keys_,
          .connections = by_id_.size(),
          .watchers = watchers_.size(),
          .duplicate_keys = duplicate_keys_,
          .duplicate_connections = duplicate_connections_,
          .duplicate_connections_total = duplicate_connections_total_,
          .second_mesh_links = second_mesh_links_,
          .last_mesh_links = last_mesh_links_,
          .strange_mesh_removals = strange_mesh_removals_};
}

}  // namespace detour::relay
