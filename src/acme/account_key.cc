#include "acme/account_key.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <utility>

#include "acme/json.h"
#include "acme/openssl.h"
#include "acme/pem.h"
#include "base/check.h"

namespace detour::acme {
namespace {

/// Bytes of a coordinate, and of each half of a signature.
constexpr int kFieldSize = 32;

using SignaturePtr = std::unique_ptr<ECDSA_SIG, FreeWith<ECDSA_SIG_free>>;
using DigestContextPtr = std::unique_ptr<EVP_MD_CTX, FreeWith<EVP_MD_CTX_free>>;

std::string coordinate(const EVP_PKEY* key, const char* name) {
  BIGNUM* number = nullptr;
  DETOUR_CHECK(EVP_PKEY_get_bn_param(key, name, &number) == 1);
  const BignumPtr owner(number);
  Bytes bytes(kFieldSize);
  DETOUR_CHECK(BN_bn2binpad(number, bytes.data(), kFieldSize) == kFieldSize);
  return base64url(bytes);
}

bool is_p256(const EVP_PKEY* key) {
  std::array<char, 64> group{};
  return EVP_PKEY_is_a(key, "EC") == 1 &&
         EVP_PKEY_get_group_name(key, group.data(), group.size(), nullptr) == 1 &&
         std::strcmp(group.data(), SN_X9_62_prime256v1) == 0;
}

std::string flattened(const std::string& protected_header, std::string_view payload,
                      const std::string& signature) {
  return to_text(nlohmann::json{{"protected", protected_header},
                                {"payload", std::string(payload)},
                                {"signature", signature}});
}

}  // namespace

AccountKey AccountKey::generate() {
  PrivateKeyPtr key(EVP_EC_gen("P-256"));
  DETOUR_CHECK(key != nullptr);
  return AccountKey(std::move(key));
}

std::expected<AccountKey, std::string> AccountKey::parse(const std::string& path,
                                                         std::string_view pem) {
  auto content = parse_pem(path, pem);
  if (!content) return std::unexpected(content.error());
  if (content->keys.size() != 1 || !is_p256(content->keys.front().get()))
    return std::unexpected(
        fmt::format("{0}: is not one ECDSA P-256 key; move it away with `mv {0} {0}.old`: a new "
                    "account is made then, which costs nothing",
                    path));
  return AccountKey(std::move(content->keys.front()));
}

std::string AccountKey::pem() const {
  return to_pem(key_.get());
}

std::string AccountKey::jwk() const {
  return fmt::format(R"({{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}})",
                     coordinate(key_.get(), OSSL_PKEY_PARAM_EC_PUB_X),
                     coordinate(key_.get(), OSSL_PKEY_PARAM_EC_PUB_Y));
}

std::string AccountKey::key_authorization(std::string_view token) const {
  return fmt::format("{}.{}", token, base64url(sha256(jwk())));
}

Bytes AccountKey::sign(std::string_view text) const {
  const DigestContextPtr context(EVP_MD_CTX_new());
  DETOUR_CHECK(context != nullptr);
  DETOUR_CHECK(EVP_DigestSignInit(context.get(), nullptr, EVP_sha256(), nullptr, key_.get()) == 1);
  const auto* const data = reinterpret_cast<const unsigned char*>(text.data());
  std::size_t size = 0;
  DETOUR_CHECK(EVP_DigestSign(context.get(), nullptr, &size, data, text.size()) == 1);
  Bytes der(size);
  DETOUR_CHECK(EVP_DigestSign(context.get(), der.data(), &size, data, text.size()) == 1);

  // OpenSSL gives DER, and JWS wants the two numbers side by side (RFC 7518 section 3.4).
  const unsigned char* at = der.data();
  const SignaturePtr signature(d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(size)));
  DETOUR_CHECK(signature != nullptr);
  Bytes both(std::size_t{2} * kFieldSize);
  DETOUR_CHECK(BN_bn2binpad(ECDSA_SIG_get0_r(signature.get()), both.data(), kFieldSize) ==
               kFieldSize);
  DETOUR_CHECK(BN_bn2binpad(ECDSA_SIG_get0_s(signature.get()), both.data() + kFieldSize,
                            kFieldSize) == kFieldSize);
  return both;
}

std::string AccountKey::sign_request(std::string_view url, std::string_view nonce,
                                     std::string_view account_url, std::string_view payload) const {
  nlohmann::json header{{"alg", "ES256"}, {"nonce", std::string(nonce)}, {"url", std::string(url)}};
  if (account_url.empty()) {
    header["jwk"] = nlohmann::json::parse(jwk());
  } else {
    header["kid"] = std::string(account_url);
  }
  const std::string protected_header = base64url(to_text(header));
  const std::string body = base64url(payload);
  return flattened(protected_header, body, base64url(sign(protected_header + "." + body)));
}

std::string bind_account(const AccountKey& key, std::string_view new_account_url,
                         std::string_view key_id, std::span<const std::uint8_t> hmac_key) {
  const nlohmann::json header{
      {"alg", "HS256"}, {"kid", std::string(key_id)}, {"url", std::string(new_account_url)}};
  const std::string protected_header = base64url(to_text(header));
  const std::string body = base64url(key.jwk());
  return flattened(protected_header, body,
                   base64url(hmac_sha256(hmac_key, protected_header + "." + body)));
}

}  // namespace detour::acme
