#include "net/tls_provider.h"

#include <gtest/gtest.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/provider.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "net/tls13_kdf.h"
#include "support/hex.h"

namespace detour::net::tls13 {
namespace {

// Numbers from RFC 8448 section 3, "Simple 1-RTT Handshake" (SHA-256, AES-128-GCM).
constexpr const char* kServerApplicationSecret =
    "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643";
constexpr const char* kClientApplicationSecret =
    "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5";

std::string expand(Hash hash, const std::string& secret_hex, std::string_view label,
                   std::size_t size) {
  std::vector<std::uint8_t> out(size);
  EXPECT_TRUE(expand_label(hash, test::unhex(secret_hex), label, {}, out));
  return test::hex(out);
}

TEST(ExpandLabel, GivesTheKeysOfRfc8448) {
  EXPECT_EQ(expand(Hash::kSha256, kServerApplicationSecret, "key", 16),
            "9f02283b6c9c07efc26bb9f2ac92e356");
  EXPECT_EQ(expand(Hash::kSha256, kServerApplicationSecret, "iv", 12), "cf782b88dd83549aadf1e984");
  EXPECT_EQ(expand(Hash::kSha256, kClientApplicationSecret, "key", 16),
            "17422dda596ed5d9acd890e3c63f5051");
  EXPECT_EQ(expand(Hash::kSha256, kClientApplicationSecret, "iv", 12), "5b78923dee08579033e523d9");
}

TEST(ExpandLabel, TakesEachSizeUpToItsLimitAndNoneBeyond) {
  const std::vector<std::uint8_t> secret(32, 7);
  std::vector<std::uint8_t> out(48);
  const std::string label(kLabelSizeMax, 'x');
  const std::vector<std::uint8_t> context(kHashSizeMax, 1);
  EXPECT_TRUE(expand_label(Hash::kSha384, secret, label, context, out));
  EXPECT_TRUE(expand_label(Hash::kSha256, secret, label, context, std::span(out).first(32)));
  EXPECT_FALSE(expand_label(Hash::kSha256, secret, label, context, std::span(out).first(33)));
  EXPECT_FALSE(expand_label(Hash::kSha384, secret, label + "x", context, out));
  const std::vector<std::uint8_t> long_context(kHashSizeMax + 1, 1);
  EXPECT_FALSE(expand_label(Hash::kSha384, secret, label, long_context, out));
}

struct KdfDeleter {
  void operator()(EVP_KDF* kdf) const { EVP_KDF_free(kdf); }
  void operator()(EVP_KDF_CTX* context) const { EVP_KDF_CTX_free(context); }
};

/// One derivation as libssl asks for it; empty when it is refused.
struct Derivation {
  int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
  std::string digest = "SHA256";
  std::vector<std::uint8_t> key = {};
  std::vector<std::uint8_t> salt = {};
  std::string label = "derived";
  std::vector<std::uint8_t> data = {};
  std::size_t size = 32;
};

std::string derive(const char* query, Derivation asked) {
  const std::unique_ptr<EVP_KDF, KdfDeleter> kdf(
      EVP_KDF_fetch(nullptr, OSSL_KDF_NAME_TLS1_3_KDF, query));
  const std::unique_ptr<EVP_KDF_CTX, KdfDeleter> context(EVP_KDF_CTX_new(kdf.get()));
  std::string prefix = "tls13 ";
  std::vector<OSSL_PARAM> params = {
      OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &asked.mode),
      OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, asked.digest.data(), 0),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PREFIX, prefix.data(), prefix.size()),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_LABEL, asked.label.data(),
                                        asked.label.size()),
  };
  const auto add = [&params](const char* name, std::vector<std::uint8_t>& bytes) {
    if (!bytes.empty())
      params.push_back(OSSL_PARAM_construct_octet_string(name, bytes.data(), bytes.size()));
  };
  add(OSSL_KDF_PARAM_KEY, asked.key);
  add(OSSL_KDF_PARAM_SALT, asked.salt);
  add(OSSL_KDF_PARAM_DATA, asked.data);
  params.push_back(OSSL_PARAM_construct_end());
  std::vector<std::uint8_t> out(asked.size);
  if (EVP_KDF_derive(context.get(), out.data(), out.size(), params.data()) != 1) return {};
  return test::hex(out);
}

TEST(KdfProvider, DerivesWhatOpenSslDerives) {
  const char* const ours = install_tls_provider();
  ASSERT_NE(ours, nullptr);
  constexpr const char* kTheirs = "provider=default";
  const std::vector<std::uint8_t> key(32, 0x42);
  const std::vector<std::uint8_t> salt(32, 0x17);
  const std::vector<std::uint8_t> key48(48, 0x42);
  constexpr int kExtract = EVP_KDF_HKDF_MODE_EXTRACT_ONLY;
  const std::pair<const char*, Derivation> cases[] = {
      {"expand without data", {.key = key, .label = "key", .size = 16}},
      {"expand with data", {.key = key, .label = "c ap traffic", .data = salt}},
      {"expand SHA-384",
       {.digest = "SHA384", .key = key48, .label = "exp master", .data = key48, .size = 48}},
      {"extract the first secret", {.mode = kExtract}},
      {"extract with key and salt", {.mode = kExtract, .key = key, .salt = salt}},
      {"extract with a salt alone", {.mode = kExtract, .salt = salt}},
      {"extract SHA-384",
       {.mode = kExtract, .digest = "SHA384", .key = key, .salt = key48, .size = 48}},
      {"extract with a key longer than a block",
       {.mode = kExtract, .key = std::vector<std::uint8_t>(1024, 9), .salt = salt}},
  };
  for (const auto& [name, asked] : cases) {
    SCOPED_TRACE(name);
    const std::string wanted = derive(kTheirs, asked);
    EXPECT_NE(wanted, "");
    EXPECT_EQ(derive(ours, asked), wanted);
  }
}

TEST(KdfProvider, RefusesWhatItDoesNotKnow) {
  const char* const ours = install_tls_provider();
  ASSERT_NE(ours, nullptr);
  const std::vector<std::uint8_t> key(32, 0x42);
  EXPECT_EQ(derive(ours, {.digest = "SHA512", .key = key}), "");
  EXPECT_EQ(derive(ours, {.mode = EVP_KDF_HKDF_MODE_EXTRACT_AND_EXPAND, .key = key}), "");
  EXPECT_EQ(derive(ours, {.key = key, .size = 33}), "");
  EXPECT_EQ(derive(ours, {.mode = EVP_KDF_HKDF_MODE_EXTRACT_ONLY, .key = key, .size = 31}), "");
}

TEST(KdfProvider, CapturesTheTrafficSecretsAndNothingElse) {
  const char* const ours = install_tls_provider();
  ASSERT_NE(ours, nullptr);
  const std::vector<std::uint8_t> key(32, 0x42);
  TrafficSecrets secrets;
  std::string client;
  std::string server;
  {
    const SecretCapture capture(secrets);
    client = derive(ours, {.key = key, .label = "c ap traffic"});
    server = derive(ours, {.key = key, .label = "s ap traffic"});
    derive(ours, {.key = key, .label = "c hs traffic"});
    derive(ours, {.key = key, .label = "exp master"});
  }
  EXPECT_EQ(test::hex(secrets.client.bytes()), client);
  EXPECT_EQ(test::hex(secrets.server.bytes()), server);
  derive(ours, {.key = std::vector<std::uint8_t>(32, 1), .label = "c ap traffic"});
  EXPECT_EQ(test::hex(secrets.client.bytes()), client) << "captured after the end of the scope";
}

struct PkeyDeleter {
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
  void operator()(EVP_PKEY_CTX* context) const { EVP_PKEY_CTX_free(context); }
};
using Pkey = std::unique_ptr<EVP_PKEY, PkeyDeleter>;

Pkey generate_x25519(const char* query) {
  const std::unique_ptr<EVP_PKEY_CTX, PkeyDeleter> context(
      EVP_PKEY_CTX_new_from_name(nullptr, "X25519", query));
  EVP_PKEY* key = nullptr;
  EXPECT_EQ(EVP_PKEY_keygen_init(context.get()), 1);
  EXPECT_EQ(EVP_PKEY_generate(context.get(), &key), 1);
  return Pkey(key);
}

std::vector<std::uint8_t> public_bytes(const Pkey& key) {
  unsigned char* bytes = nullptr;
  const std::size_t size = EVP_PKEY_get1_encoded_public_key(key.get(), &bytes);
  std::vector<std::uint8_t> copy(bytes, bytes + size);
  OPENSSL_free(bytes);
  return copy;
}

/// The shared secret of `own` and a public key, as a handshake takes it; empty when refused.
std::string exchange(const Pkey& own, std::span<const std::uint8_t> peer_bytes, const char* query) {
  const Pkey peer(EVP_PKEY_new());
  if (EVP_PKEY_copy_parameters(peer.get(), own.get()) != 1 ||
      EVP_PKEY_set1_encoded_public_key(peer.get(), peer_bytes.data(), peer_bytes.size()) != 1)
    return {};
  const std::unique_ptr<EVP_PKEY_CTX, PkeyDeleter> context(
      EVP_PKEY_CTX_new_from_pkey(nullptr, own.get(), query));
  std::vector<std::uint8_t> secret(32);
  std::size_t size = secret.size();
  if (EVP_PKEY_derive_init(context.get()) != 1 ||
      EVP_PKEY_derive_set_peer(context.get(), peer.get()) != 1 ||
      EVP_PKEY_derive(context.get(), secret.data(), &size) != 1)
    return {};
  return test::hex(std::span(secret).first(size));
}

TEST(X25519Provider, AgreesWithOpenSslOnTheSharedSecret) {
  const char* const ours = install_tls_provider();
  ASSERT_NE(ours, nullptr);
  constexpr const char* kTheirs = "provider=default";
  for (int round = 0; round < 20; ++round) {
    const Pkey own = generate_x25519(ours);
    const Pkey theirs = generate_x25519(kTheirs);
    ASSERT_STREQ(OSSL_PROVIDER_get0_name(EVP_PKEY_get0_provider(own.get())), "detour");
    EXPECT_EQ(EVP_PKEY_get_security_bits(own.get()), EVP_PKEY_get_security_bits(theirs.get()));
    EXPECT_EQ(EVP_PKEY_get_bits(own.get()), EVP_PKEY_get_bits(theirs.get()));
    const std::string secret = exchange(own, public_bytes(theirs), ours);
    EXPECT_EQ(secret.size(), 64U);
    EXPECT_EQ(secret, exchange(theirs, public_bytes(own), kTheirs));
  }
}

TEST(X25519Provider, RefusesKeysOfTheWrongSizeAndSecretsThatAreZero) {
  const char* const ours = install_tls_provider();
  ASSERT_NE(ours, nullptr);
  const Pkey own = generate_x25519(ours);
  EXPECT_NE(exchange(own, std::vector<std::uint8_t>(32, 9), ours), "");
  EXPECT_EQ(exchange(own, std::vector<std::uint8_t>(31, 9), ours), "");
  EXPECT_EQ(exchange(own, std::vector<std::uint8_t>(33, 9), ours), "");
  // A point of small order makes zeros whatever our key is (RFC 7748 section 6.1).
  EXPECT_EQ(exchange(own, std::vector<std::uint8_t>(32, 0), ours), "");
}

TEST(Secret, IsEmptyAfterItMovedOn) {
  const std::vector<std::uint8_t> bytes(48, 3);
  Secret first{bytes};
  const Secret second(std::move(first));
  EXPECT_EQ(second.bytes().size(), 48U);
  EXPECT_TRUE(first.empty());  // NOLINT(bugprone-use-after-move)
}

}  // namespace
}  // namespace detour::net::tls13
