#include "net/x25519_pairs.h"

#include <openssl/bn.h>

#include <algorithm>

namespace detour::net {

void X25519Pairs::NumberDeleter::operator()(bignum_st* number) const {
  BN_free(number);
}

void X25519Pairs::ScratchDeleter::operator()(bignum_ctx* scratch) const {
  BN_CTX_free(scratch);
}

X25519Pairs::X25519Pairs()
    : scratch_(BN_CTX_new()), prime_(BN_new()), inverse_(BN_new()), u_(BN_new()) {
  for (auto* const numbers : {&numerators_, &products_, &factors_})
    std::ranges::generate(*numbers, [] { return Number(BN_new()); });
  constexpr int kBits = 255;
  constexpr BN_ULONG kLess = 19;
  if (prime_ && BN_set_bit(prime_.get(), kBits) == 1) BN_sub_word(prime_.get(), kLess);
}

X25519Pairs::~X25519Pairs() {
  sodium_memzero(pairs_.data(), sizeof pairs_);
}

bool X25519Pairs::take(Key& private_key, Key& public_key) {
  if (left_ == 0) {
    if (!make(batch_)) return false;
    left_ = batch_;
    batch_ = std::min(2 * batch_, kBatchMax);
  }
  Pair& pair = pairs_[--left_];
  private_key = pair.private_key;
  public_key = pair.public_key;
  sodium_memzero(&pair, sizeof pair);
  return true;
}

bool X25519Pairs::make(std::size_t count) {
  BN_CTX* const scratch = scratch_.get();
  const BIGNUM* const prime = prime_.get();
  for (std::size_t i = 0; i < count; ++i) {
    Key point;
    randombytes_buf(pairs_[i].private_key.data(), kKeySize);
    // Fails for the neutral element alone, which no clamped number leads to.
    if (crypto_scalarmult_ed25519_base(point.data(), pairs_[i].private_key.data()) != 0)
      return false;
    point.back() &= 0x7fU;  // The sign of x.
    BIGNUM* const numerator = numerators_[i].get();
    BIGNUM* const factor = factors_[i].get();
    if (BN_lebin2bn(point.data(), kKeySize, numerator) == nullptr || BN_one(factor) != 1 ||
        BN_mod_sub(factor, factor, numerator, prime, scratch) != 1 ||
        BN_add_word(numerator, 1) != 1)
      return false;
    const bool multiplied = i == 0 ? BN_copy(products_[0].get(), factor) != nullptr
                                   : BN_mod_mul(products_[i].get(), products_[i - 1].get(), factor,
                                                prime, scratch) == 1;
    if (!multiplied) return false;
  }

  // The inverse of all factors' product, which loses one factor in each step: times the product of
  // those before it, it is that of a single one.
  BIGNUM* const inverse = inverse_.get();
  BIGNUM* const u = u_.get();
  if (BN_mod_inverse(inverse, products_[count - 1].get(), prime, scratch) == nullptr) return false;
  for (std::size_t i = count; i-- > 0;) {
    const bool isolated =
        i == 0 ? BN_copy(u, inverse) != nullptr
               : BN_mod_mul(u, inverse, products_[i - 1].get(), prime, scratch) == 1 &&
                     BN_mod_mul(inverse, inverse, factors_[i].get(), prime, scratch) == 1;
    if (!isolated || BN_mod_mul(u, u, numerators_[i].get(), prime, scratch) != 1 ||
        BN_bn2lebinpad(u, pairs_[i].public_key.data(), kKeySize) != kKeySize)
      return false;
  }
  return true;
}

}  // namespace detour::net
