#pragma once

#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "acme/certificate.h"

/// OpenSSL's objects and texts, for this folder only.
namespace detour::acme {

template <auto kFree>
struct FreeWith {
  template <typename T>
  void operator()(T* object) const {
    kFree(object);
  }
};

using BioPtr = std::unique_ptr<BIO, FreeWith<BIO_free>>;
using ExtensionPtr = std::unique_ptr<X509_EXTENSION, FreeWith<X509_EXTENSION_free>>;
using GeneralNamesPtr = std::unique_ptr<GENERAL_NAMES, FreeWith<GENERAL_NAMES_free>>;
using AccessInfoPtr = std::unique_ptr<AUTHORITY_INFO_ACCESS, FreeWith<AUTHORITY_INFO_ACCESS_free>>;
using BasicConstraintsPtr = std::unique_ptr<BASIC_CONSTRAINTS, FreeWith<BASIC_CONSTRAINTS_free>>;
using BignumPtr = std::unique_ptr<BIGNUM, FreeWith<BN_free>>;
using StorePtr = std::unique_ptr<X509_STORE, FreeWith<X509_STORE_free>>;
using StoreContextPtr = std::unique_ptr<X509_STORE_CTX, FreeWith<X509_STORE_CTX_free>>;

/// A BIO that reads `text`, which must outlive it.
[[nodiscard]] BioPtr read_bio(std::string_view text);
[[nodiscard]] BioPtr write_bio();
[[nodiscard]] std::string written(BIO* bio);

/// The oldest error in OpenSSL's queue as words; empties the queue.
[[nodiscard]] std::string take_openssl_error();

[[nodiscard]] WallTime to_wall_time(const ASN1_TIME* time);
/// `2026-11-21 09:15:57 UTC`
[[nodiscard]] std::string to_text(WallTime time);

/// The common name, or the whole name when there is none.
[[nodiscard]] std::string name_text(const X509_NAME* name);
[[nodiscard]] std::string subject_text(X509* certificate);
[[nodiscard]] std::string issuer_text(X509* certificate);

struct AlternativeNames {
  std::vector<std::string> dns;
  std::vector<std::string> ips;
};
[[nodiscard]] AlternativeNames alternative_names(X509* certificate);

/// Where the issuer's certificate can be fetched (authority information access); empty if nowhere.
[[nodiscard]] std::string issuer_url(X509* certificate);

/// The network-order bytes of an IP address: 4 or 16, empty when it is not one.
[[nodiscard]] std::vector<unsigned char> ip_bytes(std::string_view text);

/// A certificate as found in files, made into what is served: pin, dates, names and so on.
[[nodiscard]] ServerCertificate describe_leaf(CertificatePtr leaf, PrivateKeyPtr key);

}  // namespace detour::acme
