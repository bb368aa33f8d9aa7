#pragma once

#include "net/tls13_kdf.h"

namespace detour::net::tls13 {

/// What protects the records of one connection after its handshake (RFC 8446 section 7.1).
struct TrafficSecrets {
  Secret client;  ///< client_application_traffic_secret_0
  Secret server;  ///< server_application_traffic_secret_0
};

/// Puts a provider below OpenSSL's handshake: our key schedule (tls13_kdf.h) as its TLS13-KDF, and
/// X25519 by libsodium.
///
/// OpenSSL looks HMAC and hash up anew for each of the twenty derivations of a handshake, and its
/// X25519 makes keys with portable code; together that costs more CPU than the signature. And it
/// keeps the traffic secrets to itself: the only other public way to them is the key log, which
/// prints all secrets of a handshake in hexadecimal, a byte at a time.
///
/// Returns the property query to make an SSL_CTX with, or null when OpenSSL refuses the provider:
/// then everything works by OpenSSL alone. Safe to call again and from any thread.
[[nodiscard]] const char* install_tls_provider();

/// While it lives, the traffic secrets that a handshake on this thread derives are put into
/// `secrets`. Not nested.
class SecretCapture {
 public:
  explicit SecretCapture(TrafficSecrets& secrets);
  ~SecretCapture();
  SecretCapture(const SecretCapture&) = delete;
  SecretCapture& operator=(const SecretCapture&) = delete;
};

}  // namespace detour::net::tls13
