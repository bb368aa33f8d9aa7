#pragma once

#include <openssl/core.h>

namespace detour::net {

/// X25519 (RFC 7748) by libsodium, as a provider of OpenSSL gives it: key management and key
/// exchange, no more than a TLS handshake asks for. OpenSSL's own costs 15 us more per handshake.
/// `property` is what the algorithms are found by. The tables live as long as the program.
[[nodiscard]] const OSSL_ALGORITHM* x25519_key_management(const char* property);
[[nodiscard]] const OSSL_ALGORITHM* x25519_key_exchange(const char* property);

}  // namespace detour::net
