#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <expected>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>

#include "base/clock.h"
#include "base/token_bucket.h"
#include "config/config.h"
#include "net/address.h"

namespace detour::server {

/// How many connections there may be, in total and from one address, and how fast they may come.
///
/// Safe from any thread. Once per connection it takes a lock for as long as it takes to change a
/// number.
class ConnectionLimits {
 public:
  /// An IPv4 address, or the first 64 bits of an IPv6 address: whoever has one of those has them
  /// all.
  using AddressKey = std::array<std::uint8_t, 16>;
  [[nodiscard]] static AddressKey key_of(const net::SocketAddress& address);

  /// A connection's place in the counts, given back when it is destroyed.
  class Slot {
   public:
    Slot() = default;
    Slot(Slot&& other) noexcept
        : limits_(std::exchange(other.limits_, nullptr)),
          key_(other.key_),
          counts_address_(std::exchange(other.counts_address_, false)) {}
    Slot& operator=(Slot&& other) noexcept {
      if (this != &other) {
        release();
        limits_ = std::exchange(other.limits_, nullptr);
        key_ = other.key_;
        counts_address_ = std::exchange(other.counts_address_, false);
      }
      return *this;
    }
    ~Slot() { release(); }

    void release();
    /// Counts the connection for another address than before: that of the client behind a proxy.
    /// False when that one has all its connections already; the connection has to be closed.
    [[nodiscard]] bool move_to(const net::SocketAddress& address);

   private:
    friend class ConnectionLimits;
    ConnectionLimits* limits_ = nullptr;
    AddressKey key_{};
    bool counts_address_ = false;
  };

  enum class Refusal : std::uint8_t { kTotal, kAddress };

  explicit ConnectionLimits(const config::Config& config) { set(config); }

  /// Takes changed limits. Connections that are there stay; a bucket starts full.
  void set(const config::Config& config);

  /// Whether the rate of accepts allows one more now; takes it if so.
  [[nodiscard]] bool admit_accept(TimePoint now);
  /// A place for a connection from this address. `counts_address` is false for a proxy, which
  /// speaks for many.
  [[nodiscard]] std::expected<Slot, Refusal> take(const net::SocketAddress& address,
                                                  bool counts_address = true);

  [[nodiscard]] std::uint64_t connections() const {
    return connections_.load(std::memory_order_relaxed);
  }
  [[nodiscard]] std::uint64_t connections_max() const {
    return connections_max_.load(std::memory_order_relaxed);
  }
  [[nodiscard]] std::uint32_t per_address_max() const {
    return per_address_max_.load(std::memory_order_relaxed);
  }
  /// The address, or the network that counts as one, as messages name it.
  [[nodiscard]] static std::string describe(const net::SocketAddress& address);

 private:
  struct HashKey {
    std::size_t operator()(const AddressKey& key) const;
  };

  bool count_address(const AddressKey& key);
  void uncount_address(const AddressKey& key);

  std::atomic<std::uint64_t> connections_{0};
  std::atomic<std::uint64_t> connections_max_{0};  ///< 0 = none.
  std::atomic<std::uint32_t> per_address_max_{0};  ///< 0 = none.

  std::mutex addresses_mutex_;
  /// Only addresses with connections have an entry. Counted without a limit too, so that one that
  /// is set later knows who is there.
  std::unordered_map<AddressKey, std::uint32_t, HashKey> addresses_;

  std::mutex rate_mutex_;
  std::atomic<bool> has_rate_{false};
  TokenBucket rate_{0, 0};
};

}  // namespace detour::server
