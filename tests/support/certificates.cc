#include "support/certificates.h"

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include <memory>

#include "base/check.h"

namespace detour::test {
namespace {

acme::PrivateKeyPtr make_key(KeyKind kind) {
  switch (kind) {
    case KeyKind::kEcdsa:
      return acme::PrivateKeyPtr(EVP_EC_gen("P-256"));
    case KeyKind::kRsa2048:
      return acme::PrivateKeyPtr(EVP_RSA_gen(2048));
    case KeyKind::kRsa1024:
      return acme::PrivateKeyPtr(EVP_RSA_gen(1024));
    case KeyKind::kEd25519:
      break;
  }
  return acme::PrivateKeyPtr(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"));
}

void set_name(X509_NAME* name, const std::string& common_name) {
  DETOUR_CHECK(X509_NAME_add_entry_by_txt(
                   name, "CN", MBSTRING_UTF8,
                   reinterpret_cast<const unsigned char*>(common_name.c_str()), -1, -1, 0) == 1);
}

void add_extension(X509* certificate, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str());
  DETOUR_CHECK(extension != nullptr);
  X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
}

std::string alternative_names(const CertificateSpec& spec) {
  std::string text;
  for (const auto& name : spec.dns_names) text += (text.empty() ? "DNS:" : ",DNS:") + name;
  for (const auto& ip : spec.ips) text += (text.empty() ? "IP:" : ",IP:") + ip;
  return text;
}

void set_random_serial(X509* certificate) {
  std::uint32_t serial = 0;
  RAND_bytes(reinterpret_cast<unsigned char*>(&serial), sizeof serial);
  ASN1_INTEGER_set_uint64(X509_get_serialNumber(certificate), serial + 1ULL);
}

acme::CertificatePtr sign(const CertificateSpec& spec, EVP_PKEY* key,
                          const TestCertificate* issuer) {
  acme::CertificatePtr made(X509_new());
  X509* issuing = issuer != nullptr ? issuer->certificate.get() : made.get();
  X509_set_version(made.get(), 2);
  set_random_serial(made.get());
  set_name(X509_get_subject_name(made.get()), spec.common_name);
  X509_set_issuer_name(made.get(), X509_get_subject_name(issuing));
  using std::chrono::system_clock;
  ASN1_TIME_set(X509_getm_notBefore(made.get()), system_clock::to_time_t(spec.not_before));
  ASN1_TIME_set(X509_getm_notAfter(made.get()), system_clock::to_time_t(spec.not_after));
  X509_set_pubkey(made.get(), key);

  add_extension(made.get(), issuing, NID_basic_constraints,
                spec.is_authority ? "critical,CA:TRUE" : "critical,CA:FALSE");
  add_extension(made.get(), issuing, NID_subject_key_identifier, "hash");
  if (issuer != nullptr)
    add_extension(made.get(), issuing, NID_authority_key_identifier, "keyid:always");
  if (spec.is_authority)
    add_extension(made.get(), issuing, NID_key_usage, "critical,keyCertSign,cRLSign");
  if (const auto names = alternative_names(spec); !names.empty())
    add_extension(made.get(), issuing, NID_subject_alt_name, names);
  if (!spec.issuer_url.empty())
    add_extension(made.get(), issuing, NID_info_access, "caIssuers;URI:" + spec.issuer_url);

  EVP_PKEY* signing_key = issuer != nullptr ? issuer->key.get() : key;
  const bool is_ed25519 = EVP_PKEY_get_base_id(signing_key) == EVP_PKEY_ED25519;
  const EVP_MD* digest = is_ed25519 ? nullptr : spec.sha1 ? EVP_sha1() : EVP_sha256();
  DETOUR_CHECK(X509_sign(made.get(), signing_key, digest) > 0);
  return made;
}

std::string take(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  std::string text(data, static_cast<std::size_t>(size));
  BIO_free(bio);
  return text;
}

}  // namespace

std::string TestCertificate::pem() const {
  BIO* bio = BIO_new(BIO_s_mem());
  PEM_write_bio_X509(bio, certificate.get());
  return take(bio);
}

std::string TestCertificate::key_pem(KeyForm form) const {
  BIO* bio = BIO_new(BIO_s_mem());
  unsigned char phrase[] = "secret";
  constexpr int kPhraseSize = 6;
  switch (form) {
    case KeyForm::kPkcs8:
      PEM_write_bio_PKCS8PrivateKey(bio, key.get(), nullptr, nullptr, 0, nullptr, nullptr);
      break;
    case KeyForm::kTraditional:
      PEM_write_bio_PrivateKey_traditional(bio, key.get(), nullptr, nullptr, 0, nullptr, nullptr);
      break;
    case KeyForm::kEncrypted:
      PEM_write_bio_PKCS8PrivateKey(bio, key.get(), EVP_aes_128_cbc(),
                                    reinterpret_cast<const char*>(phrase), kPhraseSize, nullptr,
                                    nullptr);
      break;
    case KeyForm::kTraditionalEncrypted:
      PEM_write_bio_PrivateKey_traditional(bio, key.get(), EVP_aes_128_cbc(), phrase, kPhraseSize,
                                           nullptr, nullptr);
      break;
  }
  return take(bio);
}

TestCertificate make_certificate(const CertificateSpec& spec, const TestCertificate* issuer) {
  auto key = make_key(spec.key);
  DETOUR_CHECK(key != nullptr);
  auto certificate = sign(spec, key.get(), issuer);
  return {.certificate = std::move(certificate), .key = std::move(key)};
}

TestCertificate renew(const TestCertificate& of, const CertificateSpec& spec,
                      const TestCertificate* issuer) {
  auto certificate = sign(spec, of.key.get(), issuer);
  EVP_PKEY_up_ref(of.key.get());
  return {.certificate = std::move(certificate), .key = acme::PrivateKeyPtr(of.key.get())};
}

TestChain make_chain(const CertificateSpec& leaf) {
  TestChain chain;
  chain.root = make_certificate({.common_name = "Test Root", .is_authority = true});
  chain.intermediate =
      make_certificate({.common_name = "Test Intermediate", .is_authority = true}, &chain.root);
  chain.leaf = make_certificate(leaf, &chain.intermediate);
  return chain;
}

}  // namespace detour::test
