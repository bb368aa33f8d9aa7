#include "acme/signing_request.h"

#include <gtest/gtest.h>
#include <openssl/x509v3.h>

#include <array>
#include <memory>
#include <string>

#include "acme/encoding.h"
#include "acme/openssl.h"
#include "support/certificates.h"

namespace detour::acme {
namespace {

TEST(SigningRequest, AsksForTheNameAloneAndIsSignedWithItsKey) {
  for (const auto& identifier :
       {Identifier{.value = "derp.example.com"}, Identifier{.value = "2001:db8::7", .is_ip = true},
        Identifier{.value = "192.0.2.7", .is_ip = true}}) {
    SCOPED_TRACE(identifier.value);
    const auto key = new_certificate_key();
    const Bytes der = make_signing_request(identifier, key.get());
    const unsigned char* at = der.data();
    const std::unique_ptr<X509_REQ, FreeWith<X509_REQ_free>> request(
        d2i_X509_REQ(nullptr, &at, static_cast<long>(der.size())));
    ASSERT_NE(request, nullptr);
    EXPECT_EQ(X509_REQ_verify(request.get(), key.get()), 1);
    EXPECT_EQ(X509_NAME_entry_count(X509_REQ_get_subject_name(request.get())), 0);
    STACK_OF(X509_EXTENSION)* const extensions = X509_REQ_get_extensions(request.get());
    ASSERT_EQ(sk_X509_EXTENSION_num(extensions), 1);
    const GeneralNamesPtr names(static_cast<GENERAL_NAMES*>(
        X509V3_get_d2i(extensions, NID_subject_alt_name, nullptr, nullptr)));
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    ASSERT_EQ(sk_GENERAL_NAME_num(names.get()), 1);
    int type = 0;
    const auto* value = static_cast<const ASN1_STRING*>(
        GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names.get(), 0), &type));
    EXPECT_EQ(type, identifier.is_ip ? GEN_IPADD : GEN_DNS);
    const std::string bytes(reinterpret_cast<const char*>(ASN1_STRING_get0_data(value)),
                            static_cast<std::size_t>(ASN1_STRING_length(value)));
    const auto ip = ip_bytes(identifier.value);
    EXPECT_EQ(bytes, identifier.is_ip ? std::string(ip.begin(), ip.end()) : identifier.value);
  }
}

TEST(AlpnCertificate, HoldsTheHashOfTheAuthorizationInACriticalExtension) {
  const Identifier identifier{.value = "derp.example.com"};
  const auto key = new_certificate_key();
  const auto certificate =
      make_alpn_certificate(identifier, "token.thumbprint", key.get(), test::kTestTime);
  EXPECT_EQ(X509_verify(certificate.get(), key.get()), 1);
  EXPECT_EQ(alternative_names(certificate.get()).dns, std::vector<std::string>{"derp.example.com"});
  EXPECT_LT(to_wall_time(X509_get0_notBefore(certificate.get())), test::kTestTime);
  EXPECT_GT(to_wall_time(X509_get0_notAfter(certificate.get())), test::kTestTime);

  ASN1_OBJECT* const object = OBJ_txt2obj("1.3.6.1.5.5.7.1.31", 1);
  const int at = X509_get_ext_by_OBJ(certificate.get(), object, -1);
  ASN1_OBJECT_free(object);
  ASSERT_GE(at, 0);
  X509_EXTENSION* const extension = X509_get_ext(certificate.get(), at);
  EXPECT_EQ(X509_EXTENSION_get_critical(extension), 1);
  const ASN1_OCTET_STRING* const value = X509_EXTENSION_get_data(extension);
  Bytes wanted = {0x04, 0x20};
  const auto digest = sha256("token.thumbprint");
  wanted.insert(wanted.end(), digest.begin(), digest.end());
  EXPECT_EQ(
      Bytes(ASN1_STRING_get0_data(value), ASN1_STRING_get0_data(value) + ASN1_STRING_length(value)),
      wanted);
}

TEST(AlpnName, IsTheNameOrTheAddressInReverse) {
  EXPECT_EQ(alpn_name({.value = "derp.example.com"}), "derp.example.com");
  EXPECT_EQ(alpn_name({.value = "192.0.2.7", .is_ip = true}), "7.2.0.192.in-addr.arpa");
  EXPECT_EQ(alpn_name({.value = "2001:db8::567:89ab", .is_ip = true}),
            "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa");
}

}  // namespace
}  // namespace detour::acme
