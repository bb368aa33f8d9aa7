#include <fmt/format.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include <array>
#include <chrono>
#include <string>
#include <utility>

#include "acme/certificate.h"
#include "acme/openssl.h"
#include "base/check.h"

namespace detour::acme {
namespace {

using std::chrono::days;

constexpr auto kSelfSignedLife = days(3652);  // Ten years.
/// Clients whose clock is a little behind have to accept a certificate made just now.
constexpr auto kSelfSignedBackdating = days(1);
constexpr auto kMetaLifeEachSide = days(30);

constexpr long kX509Version3 = 2;
/// The DERP protocol version, which clients read out of the meta certificate's serial.
constexpr long kDerpProtocolVersion = 2;

/// X.509 allows 64 characters here and the meta certificate has 71. OpenSSL enforces that only for
/// its MBSTRING types, so the string type is given outright.
void set_common_name(X509_NAME* name, std::string_view text) {
  DETOUR_CHECK(X509_NAME_add_entry_by_NID(name, NID_commonName, V_ASN1_PRINTABLESTRING,
                                          reinterpret_cast<const unsigned char*>(text.data()),
                                          static_cast<int>(text.size()), -1, 0) == 1);
}

void set_dates(X509* certificate, WallTime not_before, WallTime not_after) {
  using std::chrono::system_clock;
  DETOUR_CHECK(ASN1_TIME_set(X509_getm_notBefore(certificate),
                             system_clock::to_time_t(not_before)) != nullptr);
  DETOUR_CHECK(ASN1_TIME_set(X509_getm_notAfter(certificate), system_clock::to_time_t(not_after)) !=
               nullptr);
}

/// Everything but serial and extensions of a certificate that signs itself.
CertificatePtr new_certificate(std::string_view common_name, EVP_PKEY* key, WallTime not_before,
                               WallTime not_after) {
  CertificatePtr certificate(X509_new());
  DETOUR_CHECK(certificate != nullptr);
  DETOUR_CHECK(X509_set_version(certificate.get(), kX509Version3) == 1);
  set_common_name(X509_get_subject_name(certificate.get()), common_name);
  set_common_name(X509_get_issuer_name(certificate.get()), common_name);
  set_dates(certificate.get(), not_before, not_after);
  DETOUR_CHECK(X509_set_pubkey(certificate.get(), key) == 1);
  return certificate;
}

void set_random_serial(X509* certificate) {
  std::array<unsigned char, 16> bytes{};
  DETOUR_CHECK(RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) == 1);
  const BignumPtr number(BN_bin2bn(bytes.data(), static_cast<int>(bytes.size()), nullptr));
  DETOUR_CHECK(number != nullptr);
  DETOUR_CHECK(BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(certificate)) != nullptr);
}

void add_extension(X509* certificate, int nid, const char* value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, certificate, certificate, nullptr, nullptr, 0);
  const ExtensionPtr extension(X509V3_EXT_conf_nid(nullptr, &context, nid, value));
  DETOUR_CHECK(extension != nullptr);
  DETOUR_CHECK(X509_add_ext(certificate, extension.get(), -1) == 1);
}

/// Critical, an empty sequence: "not an authority".
void add_basic_constraints(X509* certificate) {
  const BasicConstraintsPtr constraints(BASIC_CONSTRAINTS_new());
  DETOUR_CHECK(constraints != nullptr);
  DETOUR_CHECK(X509_add1_ext_i2d(certificate, NID_basic_constraints, constraints.get(),
                                 /*crit=*/1, X509V3_ADD_DEFAULT) == 1);
}

CertificatePtr make_meta(std::string_view relay_key_hex, WallTime not_before, WallTime not_after,
                         EVP_PKEY* key) {
  auto certificate =
      new_certificate(fmt::format("derpkey{}", relay_key_hex), key, not_before, not_after);
  DETOUR_CHECK(ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), kDerpProtocolVersion) ==
               1);
  // macOS wants one extension. Key identifiers would make derpprobe check the dates.
  add_basic_constraints(certificate.get());
  DETOUR_CHECK(X509_sign(certificate.get(), key, nullptr) > 0);
  return certificate;
}

}  // namespace

std::expected<ServerCertificate, std::string> make_self_signed(std::string_view ip_text,
                                                               WallTime now) {
  if (ip_bytes(ip_text).empty())
    return std::unexpected(fmt::format("{} is not an IP address", ip_text));

  PrivateKeyPtr key(EVP_EC_gen("P-256"));
  DETOUR_CHECK(key != nullptr);
  auto certificate =
      new_certificate(ip_text, key.get(), now - kSelfSignedBackdating, now + kSelfSignedLife);
  set_random_serial(certificate.get());
  add_extension(certificate.get(), NID_key_usage, "critical,digitalSignature,keyEncipherment");
  add_extension(certificate.get(), NID_ext_key_usage, "serverAuth");
  add_basic_constraints(certificate.get());
  add_extension(certificate.get(), NID_subject_alt_name, fmt::format("IP:{}", ip_text).c_str());
  DETOUR_CHECK(X509_sign(certificate.get(), key.get(), EVP_sha256()) > 0);

  auto made = describe_leaf(std::move(certificate), std::move(key));
  made.just_made = true;
  return made;
}

CertificatePtr make_meta_certificate(std::string_view relay_key_hex, WallTime now) {
  const PrivateKeyPtr key(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"));
  DETOUR_CHECK(key != nullptr);
  return make_meta(relay_key_hex, now - kMetaLifeEachSide, now + kMetaLifeEachSide, key.get());
}

CertificatePtr make_meta_certificate(std::string_view relay_key_hex,
                                     const MetaCertificateFields& fields) {
  const PrivateKeyPtr key(EVP_PKEY_new_raw_private_key(
      EVP_PKEY_ED25519, nullptr, fields.ed25519_seed.data(), fields.ed25519_seed.size()));
  DETOUR_CHECK(key != nullptr);
  return make_meta(relay_key_hex, fields.not_before, fields.not_after, key.get());
}

}  // namespace detour::acme
