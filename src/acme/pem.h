#pragma once

#include <expected>
#include <string>
#include <string_view>
#include <vector>

#include "acme/certificate.h"

namespace detour::acme {

/// What one PEM file holds, in its order.
struct PemContent {
  std::vector<CertificatePtr> certificates;
  std::vector<PrivateKeyPtr> keys;
};

/// Reads certificates and unencrypted private keys (PKCS#1, SEC1, PKCS#8) out of PEM text; other
/// blocks and the text around blocks are passed over.
///
/// Fails with a message that begins with `path` when the text is not PEM at all, a block is damaged
/// or a key is encrypted, and says how to convert it.
[[nodiscard]] std::expected<PemContent, std::string> parse_pem(const std::string& path,
                                                               std::string_view text);

[[nodiscard]] std::string to_pem(X509* certificate);
/// As derper writes it: SEC1 (`EC PRIVATE KEY`) for elliptic curves.
[[nodiscard]] std::string to_pem(EVP_PKEY* key);

}  // namespace detour::acme
