#pragma once

#include <cstdint>
#include <expected>
#include <span>
#include <string>
#include <string_view>

#include "acme/certificate.h"
#include "acme/encoding.h"

namespace detour::acme {

/// What a certificate is asked for: a DNS name or an IP address.
struct Identifier {
  std::string value;  ///< In lower case; an address in its shortest form.
  bool is_ip = false;

  friend bool operator==(const Identifier&, const Identifier&) = default;
};

/// A new ECDSA P-256 key, as certificates of this relay have.
[[nodiscard]] PrivateKeyPtr new_certificate_key();

/// A certificate signing request (PKCS #10, DER) for `identifier` alone, without a subject.
[[nodiscard]] Bytes make_signing_request(const Identifier& identifier, EVP_PKEY* key);

/// The self-signed certificate that proves to an authority that we own `identifier` (RFC 8737
/// section 3): it holds the SHA-256 of the key authorization in a critical extension.
[[nodiscard]] CertificatePtr make_alpn_certificate(const Identifier& identifier,
                                                   std::string_view key_authorization,
                                                   EVP_PKEY* key, WallTime now);

/// The name under which an authority asks for `identifier` with TLS-ALPN-01: for an address its
/// name in the reverse tree of DNS (RFC 8738 section 6).
[[nodiscard]] std::string alpn_name(const Identifier& identifier);

}  // namespace detour::acme
