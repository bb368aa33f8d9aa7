#include "server/connection_limits.h"

#include <algorithm>
#include <cmath>
#include <string_view>

namespace detour::server {

ConnectionLimits::AddressKey ConnectionLimits::key_of(const net::SocketAddress& address) {
  AddressKey key = address.mapped_bytes();
  if (!address.ipv4_bytes()) std::fill(key.begin() + 8, key.end(), std::uint8_t{0});
  return key;
}

std::string ConnectionLimits::describe(const net::SocketAddress& address) {
  if (address.ipv4_bytes()) return address.ip_text();
  return "the /64 network of " + address.ip_text();
}

std::size_t ConnectionLimits::HashKey::operator()(const AddressKey& key) const {
  // Addresses that were chosen to collide cost their owner connections first.
  return std::hash<std::string_view>()({reinterpret_cast<const char*>(key.data()), key.size()});
}

void ConnectionLimits::set(const config::Config& config) {
  connections_max_.store(config.connections_max, std::memory_order_relaxed);
  per_address_max_.store(config.connections_per_address_max, std::memory_order_relaxed);
  const std::lock_guard lock(rate_mutex_);
  const double per_second = config.accept_connections_per_second;
  has_rate_.store(std::isfinite(per_second), std::memory_order_relaxed);
  if (std::isfinite(per_second))
    rate_ = TokenBucket(std::max(per_second, 0.0),
                        static_cast<double>(config.accept_connections_burst));
}

bool ConnectionLimits::admit_accept(TimePoint now) {
  if (!has_rate_.load(std::memory_order_relaxed)) return true;
  const std::lock_guard lock(rate_mutex_);
  return rate_.take(now);
}

std::expected<ConnectionLimits::Slot, ConnectionLimits::Refusal> ConnectionLimits::take(
    const net::SocketAddress& address, bool counts_address) {
  const std::uint64_t before = connections_.fetch_add(1, std::memory_order_relaxed);
  Slot slot;
  slot.limits_ = this;
  if (connections_max() != 0 && before >= connections_max())
    return std::unexpected(Refusal::kTotal);
  if (!counts_address) return slot;
  slot.key_ = key_of(address);
  if (!count_address(slot.key_)) return std::unexpected(Refusal::kAddress);
  slot.counts_address_ = true;
  return slot;
}

void ConnectionLimits::Slot::release() {
  if (limits_ == nullptr) return;
  limits_->connections_.fetch_sub(1, std::memory_order_relaxed);
  if (std::exchange(counts_address_, false)) limits_->uncount_address(key_);
  limits_ = nullptr;
}

bool ConnectionLimits::Slot::move_to(const net::SocketAddress& address) {
  if (limits_ == nullptr) return true;
  if (std::exchange(counts_address_, false)) limits_->uncount_address(key_);
  key_ = key_of(address);
  counts_address_ = limits_->count_address(key_);
  return counts_address_;
}

bool ConnectionLimits::count_address(const AddressKey& key) {
  const std::lock_guard lock(addresses_mutex_);
  const auto [it, is_new] = addresses_.try_emplace(key, 0);
  if (per_address_max() != 0 && it->second >= per_address_max()) {
    if (is_new) addresses_.erase(it);
    return false;
  }
  ++it->second;
  return true;
}

void ConnectionLimits::uncount_address(const AddressKey& key) {
  const std::lock_guard lock(addresses_mutex_);
  const auto it = addresses_.find(key);
  if (it != addresses_.end() && --it->second == 0) addresses_.erase(it);
}

}  // namespace detour::server
