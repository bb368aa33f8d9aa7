#pragma once

#include <sodium.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

struct bignum_st;
struct bignum_ctx;

namespace detour::net {

/// Key pairs for X25519 (RFC 7748), each given away once. Made several at a time, since that costs
/// 17 us a pair instead of 28.
///
/// A public key is the base point times the private key, told by its u-coordinate. libsodium finds
/// that point on the Edwards curve, with a table, in half the time that it takes on the Montgomery
/// curve, which has none. From there u = (1 + y) / (1 - y) (RFC 7748 section 4.1): the division is
/// what it costs, but one division serves a whole batch. y is as public as u, so that OpenSSL's
/// numbers, whose time tells their value, may see it.
///
/// Batches grow with use, from a single pair on. Belongs to one thread. What is left is wiped.
class X25519Pairs {
 public:
  static constexpr std::size_t kKeySize = crypto_scalarmult_BYTES;
  /// A batch is made at once, so it is no longer than half a login takes.
  static constexpr std::size_t kBatchMax = 8;

  using Key = std::array<std::uint8_t, kKeySize>;

  X25519Pairs();
  ~X25519Pairs();
  X25519Pairs(const X25519Pairs&) = delete;
  X25519Pairs& operator=(const X25519Pairs&) = delete;

  /// False when there is no memory.
  [[nodiscard]] bool take(Key& private_key, Key& public_key);

 private:
  struct Pair {
    Key private_key;
    Key public_key;
  };
  struct NumberDeleter {
    void operator()(bignum_st* number) const;
  };
  struct ScratchDeleter {
    void operator()(bignum_ctx* scratch) const;
  };
  using Number = std::unique_ptr<bignum_st, NumberDeleter>;

  /// Makes pairs_[0, count).
  [[nodiscard]] bool make(std::size_t count);

  std::array<Pair, kBatchMax> pairs_;
  std::size_t left_ = 0;
  std::size_t batch_ = 1;

  std::unique_ptr<bignum_ctx, ScratchDeleter> scratch_;
  Number prime_;                              ///< 2^255 - 19
  std::array<Number, kBatchMax> numerators_;  ///< 1 + y
  std::array<Number, kBatchMax> products_;    ///< (1 - y) of all pairs up to this one.
  std::array<Number, kBatchMax> factors_;     ///< 1 - y
  Number inverse_;
  Number u_;
};

}  // namespace detour::net
