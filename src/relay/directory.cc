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

void Directory::add(Client& client) {
  const std::lock_guard lock(mutex_);
  const std::uint64_t key_hash = hash(client.key());
  KeyEntry* entry = find_entry(*table_.load(), client.key(), key_hash);
  if (entry == nullptr) {
    auto fresh = std::make_unique<KeyEntry>();
    fresh->key = client.key();
    fresh->hash = key_hash;
    fresh->active.store(&client, std::memory_order_relaxed);
    fresh->history.push_back(&client);
    entry = fresh.release();
    insert_entry(entry);
  } else {
    const bool first_duplicate = entry->connections.size() == 1;
    if (first_duplicate) {
      entry->connections.front()->is_duplicate_.store(true, std::memory_order_relaxed);
      ++duplicate_keys_;
    }
    duplicate_connections_ += first_duplicate ? 2 : 1;
    ++duplicate_connections_total_;
    client.is_duplicate_.store(true, std::memory_order_relaxed);
    // The second connection of a key enters the history only when it speaks, later ones at once:
    // that is how the reference chooses the heir, so duplicates fail over alike on both.
    if (!first_duplicate) entry->history.push_back(&client);
    entry->active.store(&client, std::memory_order_seq_cst);
  }
  entry->connections.push_back(&client);
  client.entry_ = entry;
  by_id_.emplace(client.id(), &client);
}

Directory::Departure Directory::remove(Client& client) {
  Departure departure;
  const std::lock_guard lock(mutex_);
  KeyEntry* const entry = client.entry_;
  DETOUR_CHECK(entry != nullptr);
  client.entry_ = nullptr;
  by_id_.erase(client.id());
  std::erase(entry->connections, &client);
  std::erase(entry->history, &client);
  entry->delivered_to.merge(client.delivered_to_);

  if (entry->connections.empty()) {
    departure.key_left = true;
    departure.delivered_to.assign(entry->delivered_to.begin(), entry->delivered_to.end());
    entry->active.store(nullptr, std::memory_order_seq_cst);
    erase_entry(entry);
    return departure;
  }
  if (entry->connections.size() == 1) {
    Client* const survivor = entry->connections.front();
    survivor->is_duplicate_.store(false, std::memory_order_relaxed);
    --duplicate_keys_;
    duplicate_connections_ -= 2;
    entry->history = {survivor};
    entry->active.store(survivor, std::memory_order_seq_cst);
    return departure;
  }
  --duplicate_connections_;
  if (entry->active.load() == &client) {
    Client* const heir = entry->history.empty() ? entry->connections.back() : entry->history.back();
    entry->active.store(heir, std::memory_order_seq_cst);
  }
  return departure;
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
  return {.keys = entries_,
          .connections = by_id_.size(),
          .duplicate_keys = duplicate_keys_,
          .duplicate_connections = duplicate_connections_,
          .duplicate_connections_total = duplicate_connections_total_};
}

}  // namespace detour::relay
