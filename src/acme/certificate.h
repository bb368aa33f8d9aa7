#pragma once

#include <openssl/evp.h>
#include <openssl/x509.h>

#include <chrono>
#include <cstdint>
#include <expected>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

/// Certificate sources. Runs at start-up and on the control thread only; may block on files.
namespace detour::acme {

struct OpenSslDeleter {
  void operator()(X509* certificate) const { X509_free(certificate); }
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};

/// Owns one reference of a certificate. OpenSSL takes its own when it is given to an SSL_CTX.
using CertificatePtr = std::unique_ptr<X509, OpenSslDeleter>;
using PrivateKeyPtr = std::unique_ptr<EVP_PKEY, OpenSslDeleter>;

using WallTime = std::chrono::system_clock::time_point;

/// A TLS certificate that clients will accept, with its private key. Checked: see load_certificate.
struct ServerCertificate {
  CertificatePtr leaf;
  /// What is sent behind the leaf: each certificate is the issuer of the one before it. Never holds
  /// the meta certificate, which the relay appends when it serves.
  std::vector<CertificatePtr> chain;
  PrivateKeyPtr key;
  bool self_signed = false;  ///< Clients have to know `pin` (CertName in the DERP map).
  bool just_made = false;    ///< This start generated it.
  /// `sha256-raw:` and the SHA-256 of the leaf's DER in 64 lower-case hex digits.
  std::string pin;
  WallTime not_before;
  WallTime not_after;
  std::vector<std::string> names;  ///< Subject alternative names: DNS names and IP addresses.
  std::string cert_file;           ///< Where it was read from.
  std::string key_file;
  /// Worth one line each in the start-up log; the certificate is used all the same.
  std::vector<std::string> notices;
  std::vector<std::string> warnings;
};

/// Where a certificate comes from and what it has to be good for.
struct CertificateRequest {
  /// DNS name or IP literal that clients use. The leaf has to cover it.
  std::string hostname;
  /// Folder with `<hostname>.crt` and `.key`, where characters outside [A-Za-z0-9-.] of the host
  /// name are left out, as derper does. Not used when `cert_file` is set.
  std::string cert_dir;
  /// Explicit PEM files, of any layout: key and chain may be in one file, in any order.
  std::string cert_file;
  std::string key_file;  ///< Empty: the key is in `cert_file`.
  /// Accept a leaf whose issuer is neither in the file nor in the trust store: a private CA.
  bool allow_incomplete_chain = false;
  /// PEM file of trusted roots. Empty: the system's store (SSL_CERT_FILE, SSL_CERT_DIR).
  std::string trust_file;
  WallTime now = std::chrono::system_clock::now();
  /// Make a self-signed certificate for an address when it has no files. Only at the start: made
  /// while clients are pinned to another one, it would cut them off.
  bool make_if_missing = true;
  /// Say nothing about an authority that this machine does not know: it was chosen on purpose.
  bool any_authority = false;
  /// Warn when the certificate ends before that is over.
  std::chrono::seconds expires_soon = std::chrono::days(14);
  /// How messages name the settings: "--cert-dir" or "-certdir".
  std::string cert_dir_setting = "--cert-dir";
  std::string hostname_setting = "--hostname";
  std::string allow_incomplete_chain_setting = "--allow-incomplete-chain";
};

/// The files that a certificate is read from.
struct CertificateFiles {
  std::string cert;
  std::string key;  ///< The same as `cert` when that one file holds both.
};
[[nodiscard]] CertificateFiles certificate_files(const CertificateRequest& request);

/// The certificate for `request`, read from files, or made and kept when the host name is an IP
/// address and neither of its two files in `cert_dir` exists.
///
/// Fails with a message for the operator (what was read, what is wrong, what to do) when a file is
/// missing, unreadable by this user or not PEM, the key is encrypted or does not match, the leaf is
/// expired or not yet valid, does not cover the host name, or comes without its intermediate.
/// Never overwrites a file: when only one of the two files exists, both are named in the message.
[[nodiscard]] std::expected<ServerCertificate, std::string> load_certificate(
    const CertificateRequest& request);

/// The same checks for text that is not on disk yet. Messages call it by `request.cert_file` and
/// `key_file`, which are not read; `key_pem` may be empty when the key is in `cert_pem`.
[[nodiscard]] std::expected<ServerCertificate, std::string> check_certificate(
    const CertificateRequest& request, std::string_view cert_pem, std::string_view key_pem);

/// A self-signed ECDSA P-256 certificate for an IP address, for clients that pin it: CN and IP SAN
/// are the address, life ten years (a new one would cut off every pinned client), valid from the
/// day before `now` on, so that clients with slow clocks accept it. Not written anywhere.
/// Fails when `ip_text` is not an IPv4 or IPv6 address.
[[nodiscard]] std::expected<ServerCertificate, std::string> make_self_signed(
    std::string_view ip_text, WallTime now);

/// The extra certificate that tells TLS 1.3 clients the relay's public key before the first byte of
/// DERP (protocol: TLS "meta certificate"). Goes last in every handshake, in its own copy of the
/// chain. `relay_key_hex` is the public key in 64 lower-case hex digits. Valid 30 days around
/// `now`; clients do not check that. Its own Ed25519 key is thrown away.
[[nodiscard]] CertificatePtr make_meta_certificate(std::string_view relay_key_hex, WallTime now);

/// The same from a given Ed25519 seed and dates, for golden tests.
struct MetaCertificateFields {
  WallTime not_before;
  WallTime not_after;
  std::span<const std::uint8_t, 32> ed25519_seed;
};
[[nodiscard]] CertificatePtr make_meta_certificate(std::string_view relay_key_hex,
                                                   const MetaCertificateFields& fields);

/// The pin of a certificate, as a DERP map's CertName has it: `sha256-raw:` + 64 hex digits.
[[nodiscard]] std::string certificate_pin(X509* leaf);

/// The file name without extension for a host name: characters outside [A-Za-z0-9-.] left out.
[[nodiscard]] std::string certificate_file_stem(std::string_view hostname);

}  // namespace detour::acme
