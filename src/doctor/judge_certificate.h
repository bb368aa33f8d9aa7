#pragma once

#include <chrono>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "acme/certificate.h"
#include "client/tls_stream.h"
#include "doctor/finding.h"

namespace detour::doctor {

/// A clock this far from the other machine's is worth a warning.
inline constexpr std::chrono::seconds kSkewWarn{60};
/// A certificate that ends within this is worth a warning; a fifth of its life for short ones.
inline constexpr std::chrono::days kExpiresSoon{14};

/// What was served, and what a client would expect.
struct CertificateCase {
  std::span<const acme::CertificatePtr> sent;  ///< The leaf first, without the meta certificate.
  bool has_meta = false;                       ///< The relay's own meta certificate came along.
  std::string name;                            ///< That the certificate has to cover.
  bool sends_sni = true;                       ///< With a pin, clients check the name only then.
  std::optional<client::Sha256> pin = std::nullopt;
  bool insecure = false;              ///< Trust is not judged.
  std::string authorities_file = {};  ///< PEM; empty: those of the system.
  acme::WallTime now = std::chrono::system_clock::now();
  /// The other machine's clock less ours, out of an HTTP Date header.
  std::optional<std::chrono::seconds> skew = std::nullopt;
};

/// Everything there is to say about a served certificate as a Tailscale client sees it: D06 chain,
/// D07 names, D08 dates, D09 clock, D10 pin, D11 old clients, D15 a foreign one. One fault gives
/// one failure. Decides only; reads the file of authorities.
[[nodiscard]] std::vector<Finding> judge_certificate(const CertificateCase& served);

/// `sha256-raw:` and 64 hex digits.
[[nodiscard]] std::string pin_of(X509* certificate);
/// `1 h 5 min`, `3 days`.
[[nodiscard]] std::string span_text(std::chrono::seconds span);

}  // namespace detour::doctor
