#pragma once

#include <expected>
#include <span>
#include <string>
#include <string_view>

#include "acme/certificate.h"
#include "acme/encoding.h"

namespace detour::acme {

/// The key that an account at a certificate authority is known by: ECDSA P-256, signing as ES256.
class AccountKey {
 public:
  [[nodiscard]] static AccountKey generate();
  /// From PEM text as derper writes it (SEC1). `path` is for the message when it is of no use.
  [[nodiscard]] static std::expected<AccountKey, std::string> parse(const std::string& path,
                                                                    std::string_view pem);
  [[nodiscard]] std::string pem() const;

  /// The public key as a JSON object with its members in the order of RFC 7638.
  [[nodiscard]] std::string jwk() const;
  /// What a challenge's token is answered with: `token.thumbprint` (RFC 8555 section 8.1).
  [[nodiscard]] std::string key_authorization(std::string_view token) const;

  /// A signed request body (RFC 8555 section 6.2): the flattened JSON form of a JWS. `account_url`
  /// empty: the key itself goes along instead. `payload` empty: POST-as-GET.
  [[nodiscard]] std::string sign_request(std::string_view url, std::string_view nonce,
                                         std::string_view account_url,
                                         std::string_view payload) const;

 private:
  explicit AccountKey(PrivateKeyPtr key) : key_(std::move(key)) {}
  [[nodiscard]] Bytes sign(std::string_view text) const;

  PrivateKeyPtr key_;
};

/// The binding of an account to one that the authority knows already (RFC 8555 section 7.3.4): a
/// JWS over the account's public key, as a JSON object.
[[nodiscard]] std::string bind_account(const AccountKey& key, std::string_view new_account_url,
                                       std::string_view key_id,
                                       std::span<const std::uint8_t> hmac_key);

}  // namespace detour::acme
