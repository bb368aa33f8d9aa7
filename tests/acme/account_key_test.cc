#include "acme/account_key.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>

#include <string>

#include "acme/encoding.h"
#include "acme/openssl.h"
#include "acme/pem.h"
#include "support/certificates.h"
#include "support/says.h"

namespace detour::acme {
namespace {

using nlohmann::json;
using test::says;

/// Made with `openssl ecparam -name prime256v1 -genkey`; numbers and thumbprint by another program.
constexpr std::string_view kKeyPem =
    "-----BEGIN EC PRIVATE KEY-----\n"
    "MHcCAQEEIEst8QbXwf9QVIMRQrLpYsAwuTLYKxWbbpDUCQrXbmiAoAoGCCqGSM49\n"
    "AwEHoUQDQgAElS2ce3Yi3NDzlTHm2gryuzET5dcvZB3pI4S9uskcOo7RfTptbU5K\n"
    "bLO+Zuf9vEWZuLmK4hsc7iebXp7bLyt3Cg==\n"
    "-----END EC PRIVATE KEY-----\n";
constexpr std::string_view kJwk =
    R"({"crv":"P-256","kty":"EC","x":"lS2ce3Yi3NDzlTHm2gryuzET5dcvZB3pI4S9uskcOo4",)"
    R"("y":"0X06bW1OSmyzvmbn_bxFmbi5iuIbHO4nm16e2y8rdwo"})";

AccountKey known_key() {
  auto key = AccountKey::parse("account", kKeyPem);
  EXPECT_TRUE(key.has_value());
  return std::move(*key);
}

std::string decoded(const json& member) {
  const auto bytes = decode_base64(member.get<std::string>());
  return bytes ? std::string(bytes->begin(), bytes->end()) : "not base64url";
}

TEST(Base64Url, AgreesWithRfc4648AndLeavesThePaddingOut) {
  struct Case {
    std::string_view text;
    std::string_view encoded;
  };
  constexpr Case kCases[] = {
      {"", ""},           {"f", "Zg"},          {"fo", "Zm8"},          {"foo", "Zm9v"},
      {"foob", "Zm9vYg"}, {"fooba", "Zm9vYmE"}, {"foobar", "Zm9vYmFy"}, {"\xfb\xff\xbf", "-_-_"}};
  for (const auto& [text, encoded] : kCases) {
    EXPECT_EQ(base64url(text), encoded);
    const auto back = decode_base64(encoded);
    ASSERT_TRUE(back.has_value()) << encoded;
    EXPECT_EQ(std::string(back->begin(), back->end()), text);
  }
}

TEST(DecodeBase64, TakesWhatAuthoritiesShowAndRefusesTheRest) {
  EXPECT_EQ(decode_base64("-_-_"), (Bytes{0xfb, 0xff, 0xbf})) << "base64url";
  EXPECT_EQ(decode_base64("+/+/"), (Bytes{0xfb, 0xff, 0xbf})) << "base64";
  EXPECT_EQ(decode_base64("dGVzdC1rZXk="), decode_base64("dGVzdC1rZXk"));
  for (const std::string_view bad : {"A", "dGVzdC1rZXk==", "dGVz dC1r", "not-valid!", "=", "+_+_"})
    EXPECT_FALSE(decode_base64(bad).has_value()) << bad;
}

TEST(HmacSha256, AgreesWithRfc4231) {
  const std::string key = "Jefe";
  const Bytes key_bytes(key.begin(), key.end());
  std::string hex;
  for (const auto byte : hmac_sha256(key_bytes, "what do ya want for nothing?")) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    hex += kDigits[byte >> 4U];
    hex += kDigits[byte & 15U];
  }
  EXPECT_EQ(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}

TEST(AccountKey, IsReadAsDerperWritesItAndWrittenTheSameWay) {
  const auto key = known_key();
  EXPECT_EQ(key.pem(), kKeyPem);
  EXPECT_EQ(key.jwk(), kJwk);
}

TEST(AccountKey, HasTheThumbprintOfRfc7638InItsAuthorizations) {
  EXPECT_EQ(known_key().key_authorization("token"),
            "token._oq4jpKDMVBzpQGlI9NUwXfz3oA-9WRBEfEK87_H3Lw");
}

TEST(AccountKey, RefusesKeysOfOtherKinds) {
  const auto rsa = test::make_certificate({.common_name = "x", .key = test::KeyKind::kRsa2048});
  for (const std::string& pem : {rsa.key_pem(), rsa.pem(), std::string("nonsense")}) {
    const auto key = AccountKey::parse("/certs/acme_account+key", pem);
    ASSERT_FALSE(key.has_value());
    EXPECT_TRUE(says(key.error(), "/certs/acme_account+key"));
  }
}

TEST(AccountKey, SignsRequestsWithItselfOrItsAccount) {
  const auto key = known_key();
  const auto with_key = json::parse(key.sign_request("https://ca/new", "nonce1", "", "{}"));
  const auto header = json::parse(decoded(with_key["protected"]));
  EXPECT_EQ(header, (json{{"alg", "ES256"},
                          {"nonce", "nonce1"},
                          {"url", "https://ca/new"},
                          {"jwk", json::parse(kJwk)}}));
  EXPECT_EQ(decoded(with_key["payload"]), "{}");

  const auto with_account =
      json::parse(key.sign_request("https://ca/o", "n", "https://ca/a/1", ""));
  EXPECT_EQ(
      json::parse(decoded(with_account["protected"])),
      (json{{"alg", "ES256"}, {"nonce", "n"}, {"url", "https://ca/o"}, {"kid", "https://ca/a/1"}}));
  EXPECT_EQ(with_account["payload"], "") << "POST-as-GET";
}

TEST(AccountKey, MakesSignaturesThatItsPublicKeyVerifies) {
  const auto key = AccountKey::generate();
  auto content = parse_pem("x", key.pem());
  ASSERT_TRUE(content.has_value());
  // Often enough that numbers which begin with a zero byte come up.
  for (int i = 0; i < 300; ++i) {
    const auto body =
        json::parse(key.sign_request("https://ca/" + std::to_string(i), "n", "a", ""));
    const auto raw = decode_base64(body["signature"].get<std::string>());
    ASSERT_TRUE(raw.has_value());
    ASSERT_EQ(raw->size(), 64U);
    ECDSA_SIG* const signature = ECDSA_SIG_new();
    ECDSA_SIG_set0(signature, BN_bin2bn(raw->data(), 32, nullptr),
                   BN_bin2bn(raw->data() + 32, 32, nullptr));
    unsigned char* der = nullptr;
    const int size = i2d_ECDSA_SIG(signature, &der);
    ECDSA_SIG_free(signature);
    const std::string text =
        body["protected"].get<std::string>() + "." + body["payload"].get<std::string>();
    EVP_MD_CTX* const context = EVP_MD_CTX_new();
    EVP_DigestVerifyInit(context, nullptr, EVP_sha256(), nullptr, content->keys.front().get());
    EXPECT_EQ(EVP_DigestVerify(context, der, static_cast<std::size_t>(size),
                               reinterpret_cast<const unsigned char*>(text.data()), text.size()),
              1);
    EVP_MD_CTX_free(context);
    OPENSSL_free(der);
  }
}

TEST(BindAccount, SignsTheKeyWithWhatTheAuthorityGave) {
  const Bytes secret = {1, 2, 3};
  const auto body =
      json::parse(bind_account(known_key(), "https://ca/new-account", "kid-1", secret));
  EXPECT_EQ(json::parse(decoded(body["protected"])),
            (json{{"alg", "HS256"}, {"kid", "kid-1"}, {"url", "https://ca/new-account"}}));
  EXPECT_EQ(decoded(body["payload"]), kJwk);
  const std::string text =
      body["protected"].get<std::string>() + "." + body["payload"].get<std::string>();
  EXPECT_EQ(body["signature"], base64url(hmac_sha256(secret, text)));
}

}  // namespace
}  // namespace detour::acme
