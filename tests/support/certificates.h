#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "acme/certificate.h"

namespace detour::test {

enum class KeyKind : std::uint8_t { kEcdsa, kRsa2048, kRsa1024, kEd25519 };

/// What a certificate made for a test says. Valid around 2026-06-01 unless told otherwise.
struct CertificateSpec {
  std::string common_name = {};
  std::vector<std::string> dns_names = {};
  std::vector<std::string> ips = {};
  bool is_authority = false;
  KeyKind key = KeyKind::kEcdsa;
  bool sha1 = false;
  acme::WallTime not_before = std::chrono::sys_days{std::chrono::January / 1 / 2026};
  acme::WallTime not_after = std::chrono::sys_days{std::chrono::January / 1 / 2027};
  std::string issuer_url = {};
};

/// The time at which such certificates are used.
inline constexpr acme::WallTime kTestTime = std::chrono::sys_days{std::chrono::June / 1 / 2026};

enum class KeyForm : std::uint8_t { kPkcs8, kTraditional, kEncrypted, kTraditionalEncrypted };

/// A certificate with its key, made when the test runs.
struct TestCertificate {
  acme::CertificatePtr certificate;
  acme::PrivateKeyPtr key;

  [[nodiscard]] std::string pem() const;
  [[nodiscard]] std::string key_pem(KeyForm form = KeyForm::kPkcs8) const;
};

/// Signed by `issuer`, or by itself when there is none.
[[nodiscard]] TestCertificate make_certificate(const CertificateSpec& spec,
                                               const TestCertificate* issuer = nullptr);
/// A second certificate for the key of `of`.
[[nodiscard]] TestCertificate renew(const TestCertificate& of, const CertificateSpec& spec,
                                    const TestCertificate* issuer);

/// Root, intermediate and a leaf for derp.example.com below it: what Let's Encrypt's looks like.
struct TestChain {
  TestCertificate root;
  TestCertificate intermediate;
  TestCertificate leaf;
};
[[nodiscard]] TestChain make_chain(const CertificateSpec& leaf = {
                                       .common_name = "derp.example.com",
                                       .dns_names = {"derp.example.com"}});

}  // namespace detour::test
