#include "acme/signing_request.h"

#include <fmt/format.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>

#include <chrono>
#include <memory>

#include "acme/openssl.h"
#include "base/check.h"

namespace detour::acme {
namespace {

using RequestPtr = std::unique_ptr<X509_REQ, FreeWith<X509_REQ_free>>;
using ObjectPtr = std::unique_ptr<ASN1_OBJECT, FreeWith<ASN1_OBJECT_free>>;
using OctetsPtr = std::unique_ptr<ASN1_OCTET_STRING, FreeWith<ASN1_OCTET_STRING_free>>;

struct ExtensionsDeleter {
  void operator()(STACK_OF(X509_EXTENSION) * list) const {
    sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
  }
};
using ExtensionsPtr = std::unique_ptr<STACK_OF(X509_EXTENSION), ExtensionsDeleter>;

/// id-pe-acmeIdentifier (RFC 8737 section 6.1).
constexpr const char* kAcmeIdentifier = "1.3.6.1.5.5.7.1.31";
constexpr long kX509Version3 = 2;
constexpr auto kAlpnLifeEachSide = std::chrono::days(7);

ExtensionPtr alternative_name(const Identifier& identifier) {
  const std::string text = fmt::format("{}:{}", identifier.is_ip ? "IP" : "DNS", identifier.value);
  ExtensionPtr extension(X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, text.c_str()));
  DETOUR_CHECK(extension != nullptr);
  return extension;
}

ExtensionPtr acme_identifier(std::string_view key_authorization) {
  // An OCTET STRING of 32 bytes, inside the extension's own.
  Bytes value = {V_ASN1_OCTET_STRING, 32};
  const Bytes digest = sha256(key_authorization);
  value.insert(value.end(), digest.begin(), digest.end());
  const OctetsPtr octets(ASN1_OCTET_STRING_new());
  const ObjectPtr object(OBJ_txt2obj(kAcmeIdentifier, /*no_name=*/1));
  DETOUR_CHECK(octets != nullptr && object != nullptr);
  DETOUR_CHECK(ASN1_OCTET_STRING_set(octets.get(), value.data(), static_cast<int>(value.size())) ==
               1);
  ExtensionPtr extension(
      X509_EXTENSION_create_by_OBJ(nullptr, object.get(), /*crit=*/1, octets.get()));
  DETOUR_CHECK(extension != nullptr);
  return extension;
}

}  // namespace

PrivateKeyPtr new_certificate_key() {
  PrivateKeyPtr key(EVP_EC_gen("P-256"));
  DETOUR_CHECK(key != nullptr);
  return key;
}

Bytes make_signing_request(const Identifier& identifier, EVP_PKEY* key) {
  const RequestPtr request(X509_REQ_new());
  DETOUR_CHECK(request != nullptr);
  DETOUR_CHECK(X509_REQ_set_version(request.get(), 0) == 1);
  DETOUR_CHECK(X509_REQ_set_pubkey(request.get(), key) == 1);
  const ExtensionsPtr extensions(sk_X509_EXTENSION_new_null());
  DETOUR_CHECK(extensions != nullptr);
  DETOUR_CHECK(sk_X509_EXTENSION_push(extensions.get(), alternative_name(identifier).release()) >
               0);
  DETOUR_CHECK(X509_REQ_add_extensions(request.get(), extensions.get()) == 1);
  DETOUR_CHECK(X509_REQ_sign(request.get(), key, EVP_sha256()) > 0);

  const int size = i2d_X509_REQ(request.get(), nullptr);
  DETOUR_CHECK(size > 0);
  Bytes der(static_cast<std::size_t>(size));
  unsigned char* at = der.data();
  DETOUR_CHECK(i2d_X509_REQ(request.get(), &at) == size);
  return der;
}

CertificatePtr make_alpn_certificate(const Identifier& identifier,
                                     std::string_view key_authorization, EVP_PKEY* key,
                                     WallTime now) {
  using std::chrono::system_clock;
  CertificatePtr certificate(X509_new());
  DETOUR_CHECK(certificate != nullptr);
  X509* const made = certificate.get();
  DETOUR_CHECK(X509_set_version(made, kX509Version3) == 1);
  DETOUR_CHECK(ASN1_INTEGER_set(X509_get_serialNumber(made), 1) == 1);
  const auto add_name = [](X509_NAME* name) {
    constexpr std::string_view kText = "ACME challenge";
    DETOUR_CHECK(X509_NAME_add_entry_by_NID(name, NID_commonName, V_ASN1_PRINTABLESTRING,
                                            reinterpret_cast<const unsigned char*>(kText.data()),
                                            static_cast<int>(kText.size()), -1, 0) == 1);
  };
  add_name(X509_get_subject_name(made));
  add_name(X509_get_issuer_name(made));
  DETOUR_CHECK(ASN1_TIME_set(X509_getm_notBefore(made),
                             system_clock::to_time_t(now - kAlpnLifeEachSide)) != nullptr);
  DETOUR_CHECK(ASN1_TIME_set(X509_getm_notAfter(made),
                             system_clock::to_time_t(now + kAlpnLifeEachSide)) != nullptr);
  DETOUR_CHECK(X509_set_pubkey(made, key) == 1);
  DETOUR_CHECK(X509_add_ext(made, alternative_name(identifier).get(), -1) == 1);
  DETOUR_CHECK(X509_add_ext(made, acme_identifier(key_authorization).get(), -1) == 1);
  DETOUR_CHECK(X509_sign(made, key, EVP_sha256()) > 0);
  return certificate;
}

std::string alpn_name(const Identifier& identifier) {
  if (!identifier.is_ip) return identifier.value;
  const auto bytes = ip_bytes(identifier.value);
  std::string name;
  for (auto byte = bytes.rbegin(); byte != bytes.rend(); ++byte)
    name += bytes.size() == 4 ? fmt::format("{}.", *byte)
                              : fmt::format("{:x}.{:x}.", *byte & 0xfU, *byte >> 4U);
  return name + (bytes.size() == 4 ? "in-addr.arpa" : "ip6.arpa");
}

}  // namespace detour::acme
