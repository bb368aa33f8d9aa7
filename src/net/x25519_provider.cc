#include "net/x25519_provider.h"

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/params.h>
#include <sodium.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <span>

#include "net/openssl_dispatch.h"
#include "net/x25519_pairs.h"

namespace detour::net {

namespace {

constexpr std::size_t kSize = crypto_scalarmult_BYTES;
static_assert(kSize == 32 && crypto_scalarmult_SCALARBYTES == kSize);
constexpr int kBits = 253;          // What OpenSSL says of its own keys.
constexpr int kSecurityBits = 128;  // The same.

/// A key, or a place for one. Secret bytes are wiped.
struct Key {
  std::array<std::uint8_t, kSize> public_bytes{};
  std::array<std::uint8_t, kSize> private_bytes{};
  bool has_public = false;
  bool has_private = false;

  Key() = default;
  ~Key() { sodium_memzero(private_bytes.data(), private_bytes.size()); }
  Key(const Key&) = delete;
  Key& operator=(const Key&) = delete;
};

/// What a generation is asked for: a pair, or only the parameters, of which X25519 has none.
struct Generation {
  bool pair = false;
};

/// Both keys of an exchange. OpenSSL keeps them alive while it lasts.
struct Exchange {
  const Key* own = nullptr;
  const Key* peer = nullptr;
};

// --- Keys

void* new_key(void* /*provider_context*/) {
  return new (std::nothrow) Key;
}

void free_key(void* key) {
  delete static_cast<Key*>(key);
}

/// A copy of what `selection` names; of the parameters alone, an empty key.
void* duplicate(const void* data, int selection) {
  const auto* const from = static_cast<const Key*>(data);
  auto* const key = new (std::nothrow) Key;
  if (key == nullptr) return nullptr;
  if ((selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY) != 0) {
    key->public_bytes = from->public_bytes;
    key->has_public = from->has_public;
  }
  if ((selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0) {
    key->private_bytes = from->private_bytes;
    key->has_private = from->has_private;
  }
  return key;
}

int has(const void* data, int selection) {
  const auto* const key = static_cast<const Key*>(data);
  if (key == nullptr) return 0;
  if ((selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0 && !key->has_private) return 0;
  return (selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY) != 0 && !key->has_public ? 0 : 1;
}

int match(const void* a, const void* b, int selection) {
  if ((selection & OSSL_KEYMGMT_SELECT_KEYPAIR) == 0) return 1;
  const auto* const first = static_cast<const Key*>(a);
  const auto* const second = static_cast<const Key*>(b);
  return first->has_public && second->has_public && first->public_bytes == second->public_bytes ? 1
                                                                                                : 0;
}

int get_params(void* data, OSSL_PARAM params[]) {
  const auto* const key = static_cast<const Key*>(data);
  const auto set_int = [params](const char* name, int value) {
    OSSL_PARAM* const param = OSSL_PARAM_locate(params, name);
    return param == nullptr || OSSL_PARAM_set_int(param, value) == 1;
  };
  OSSL_PARAM* const encoded = OSSL_PARAM_locate(params, OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY);
  const bool gave_key =
      encoded == nullptr || (key->has_public && OSSL_PARAM_set_octet_string(
                                                    encoded, key->public_bytes.data(), kSize) == 1);
  return gave_key && set_int(OSSL_PKEY_PARAM_BITS, kBits) &&
                 set_int(OSSL_PKEY_PARAM_SECURITY_BITS, kSecurityBits) &&
                 set_int(OSSL_PKEY_PARAM_MAX_SIZE, static_cast<int>(kSize))
             ? 1
             : 0;
}

const OSSL_PARAM* gettable_params(void* /*provider_context*/) {
  static const OSSL_PARAM params[] = {
      OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, nullptr),
      OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, nullptr),
      OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, nullptr),
      OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, nullptr, 0),
      OSSL_PARAM_END,
  };
  return params;
}

/// Takes the peer's key share.
int set_params(void* data, const OSSL_PARAM params[]) {
  auto* const key = static_cast<Key*>(data);
  const OSSL_PARAM* const param =
      OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY);
  if (param == nullptr) return 1;
  const void* bytes = nullptr;
  std::size_t size = 0;
  if (OSSL_PARAM_get_octet_string_ptr(param, &bytes, &size) != 1 || size != kSize) return 0;
  std::memcpy(key->public_bytes.data(), bytes, kSize);
  sodium_memzero(key->private_bytes.data(), kSize);
  key->has_public = true;
  key->has_private = false;
  return 1;
}

const OSSL_PARAM* settable_params(void* /*provider_context*/) {
  static const OSSL_PARAM params[] = {
      OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, nullptr, 0),
      OSSL_PARAM_END,
  };
  return params;
}

void* begin_generation(void* /*provider_context*/, int selection, const OSSL_PARAM /*params*/[]) {
  auto* const generation = new (std::nothrow) Generation;
  if (generation != nullptr) generation->pair = (selection & OSSL_KEYMGMT_SELECT_KEYPAIR) != 0;
  return generation;
}

/// The group's name is all that a handshake sets, and there is but one.
int set_generation_params(void* /*generation*/, const OSSL_PARAM /*params*/[]) {
  return 1;
}

const OSSL_PARAM* settable_generation_params(void* /*generation*/, void* /*provider_context*/) {
  static const OSSL_PARAM params[] = {
      OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, nullptr, 0),
      OSSL_PARAM_END,
  };
  return params;
}

void* generate(void* data, OSSL_CALLBACK* /*progress*/, void* /*argument*/) {
  auto key = std::unique_ptr<Key>(new (std::nothrow) Key);
  if (key == nullptr || !static_cast<const Generation*>(data)->pair) return key.release();
  thread_local X25519Pairs pairs;
  if (!pairs.take(key->private_bytes, key->public_bytes)) return nullptr;
  key->has_public = key->has_private = true;
  return key.release();
}

void end_generation(void* generation) {
  delete static_cast<Generation*>(generation);
}

// --- Exchange

void* new_exchange(void* /*provider_context*/) {
  return new (std::nothrow) Exchange;
}

void free_exchange(void* exchange) {
  delete static_cast<Exchange*>(exchange);
}

int begin_exchange(void* exchange, void* own, const OSSL_PARAM /*params*/[]) {
  static_cast<Exchange*>(exchange)->own = static_cast<const Key*>(own);
  return own != nullptr && static_cast<const Key*>(own)->has_private ? 1 : 0;
}

int set_peer(void* exchange, void* peer) {
  static_cast<Exchange*>(exchange)->peer = static_cast<const Key*>(peer);
  return peer != nullptr && static_cast<const Key*>(peer)->has_public ? 1 : 0;
}

int derive(void* data, unsigned char* secret, std::size_t* size, std::size_t room) {
  const auto* const exchange = static_cast<const Exchange*>(data);
  *size = kSize;
  if (secret == nullptr) return 1;
  if (room < kSize || exchange->own == nullptr || exchange->peer == nullptr) return 0;
  // Fails when the result is all zeros, as RFC 8446 section 7.4.2 wants it.
  return crypto_scalarmult(secret, exchange->own->private_bytes.data(),
                           exchange->peer->public_bytes.data()) == 0
             ? 1
             : 0;
}

constexpr const char* kNames = "X25519:1.3.101.110";

}  // namespace

const OSSL_ALGORITHM* x25519_key_management(const char* property) {
  static const OSSL_DISPATCH functions[] = {
      dispatch_entry(OSSL_FUNC_KEYMGMT_NEW, new_key),
      dispatch_entry(OSSL_FUNC_KEYMGMT_FREE, free_key),
      dispatch_entry(OSSL_FUNC_KEYMGMT_DUP, duplicate),
      dispatch_entry(OSSL_FUNC_KEYMGMT_HAS, has),
      dispatch_entry(OSSL_FUNC_KEYMGMT_MATCH, match),
      dispatch_entry(OSSL_FUNC_KEYMGMT_GET_PARAMS, get_params),
      dispatch_entry(OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, gettable_params),
      dispatch_entry(OSSL_FUNC_KEYMGMT_SET_PARAMS, set_params),
      dispatch_entry(OSSL_FUNC_KEYMGMT_SETTABLE_PARAMS, settable_params),
      dispatch_entry(OSSL_FUNC_KEYMGMT_GEN_INIT, begin_generation),
      dispatch_entry(OSSL_FUNC_KEYMGMT_GEN_SET_PARAMS, set_generation_params),
      dispatch_entry(OSSL_FUNC_KEYMGMT_GEN_SETTABLE_PARAMS, settable_generation_params),
      dispatch_entry(OSSL_FUNC_KEYMGMT_GEN, generate),
      dispatch_entry(OSSL_FUNC_KEYMGMT_GEN_CLEANUP, end_generation),
      {0, nullptr},
  };
  static const OSSL_ALGORITHM algorithms[] = {
      {kNames, property, functions, "X25519 by libsodium"},
      {nullptr, nullptr, nullptr, nullptr},
  };
  return sodium_init() < 0 ? nullptr : algorithms;
}

const OSSL_ALGORITHM* x25519_key_exchange(const char* property) {
  static const OSSL_DISPATCH functions[] = {
      dispatch_entry(OSSL_FUNC_KEYEXCH_NEWCTX, new_exchange),
      dispatch_entry(OSSL_FUNC_KEYEXCH_FREECTX, free_exchange),
      dispatch_entry(OSSL_FUNC_KEYEXCH_INIT, begin_exchange),
      dispatch_entry(OSSL_FUNC_KEYEXCH_SET_PEER, set_peer),
      dispatch_entry(OSSL_FUNC_KEYEXCH_DERIVE, derive),
      {0, nullptr},
  };
  static const OSSL_ALGORITHM algorithms[] = {
      {kNames, property, functions, "X25519 by libsodium"},
      {nullptr, nullptr, nullptr, nullptr},
  };
  return sodium_init() < 0 ? nullptr : algorithms;
}

}  // namespace detour::net
