#include "crypto/box.h"

#include <sodium.h>

#include <algorithm>

#include "base/check.h"

namespace detour::crypto {

static_assert(kNonceSize == crypto_box_NONCEBYTES);
static_assert(kBoxTagSize == crypto_box_MACBYTES);
static_assert(kKeySize == crypto_box_BEFORENMBYTES);

SharedKey::~SharedKey() {
  wipe(bytes_);
}

Result<SharedKey> SharedKey::derive(const NodePrivate& own, const NodePublic& peer) {
  SharedKey key;
  // Refuses low-order points, zero among them: they would make the shared key known to everybody.
  const int status =
      crypto_box_beforenm(key.bytes_.data(), peer.bytes().data(), own.secret_bytes().data());
  if (status != 0) return fail(ErrorCode::kClientKeyInvalid);
  return key;
}

Result<std::vector<std::uint8_t>> SharedKey::open(std::span<const std::uint8_t> box) const {
  if (box.size() < kBoxOverhead) return fail(ErrorCode::kBoxInvalid);

  const auto nonce = box.first<kNonceSize>();
  const auto sealed = box.subspan<kNonceSize>();
  std::vector<std::uint8_t> plaintext(sealed.size() - kBoxTagSize);
  const int status = crypto_box_open_easy_afternm(plaintext.data(), sealed.data(), sealed.size(),
                                                  nonce.data(), bytes_.data());
  if (status != 0) return fail(ErrorCode::kBoxInvalid);
  return plaintext;
}

std::vector<std::uint8_t> SharedKey::seal(std::span<const std::uint8_t> plaintext) const {
  Nonce nonce;
  random_bytes(nonce);
  return seal(plaintext, nonce);
}

std::vector<std::uint8_t> SharedKey::seal(std::span<const std::uint8_t> plaintext,
                                          const Nonce& nonce) const {
  std::vector<std::uint8_t> box(kBoxOverhead + plaintext.size());
  std::copy(nonce.begin(), nonce.end(), box.begin());
  // Fails only for plaintexts beyond what memory can hold.
  DETOUR_CHECK(crypto_box_easy_afternm(box.data() + kNonceSize, plaintext.data(), plaintext.size(),
                                       nonce.data(), bytes_.data()) == 0);
  return box;
}

}  // namespace detour::crypto
