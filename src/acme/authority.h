#pragma once

#include <nlohmann/json_fwd.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "acme/account_key.h"
#include "acme/challenge.h"
#include "acme/https.h"
#include "acme/problem.h"
#include "acme/signing_request.h"
#include "base/clock.h"

namespace detour::acme {

/// A request is sent again so often when its nonce is refused (RFC 8555 section 6.5).
inline constexpr int kNonceRetries = 20;
/// How long an order may take, all its waiting together.
inline constexpr std::chrono::seconds kOrderTimeout{180};
/// An order for one name has one authorization; more are a sign of something else.
inline constexpr std::size_t kAuthorizationsMax = 4;
/// The order profile for certificates that live about six days, the only ones that public
/// authorities give for addresses.
inline constexpr std::string_view kShortLivedProfile = "shortlived";

template <typename T>
using Outcome = std::expected<T, Problem>;

/// A certificate as the authority gave it.
struct IssuedCertificate {
  PrivateKeyPtr key;
  std::string chain_pem;  ///< Leaf first.
};

/// An account at a certificate authority, by ACME (RFC 8555). Blocks; one thread at a time.
class Authority {
 public:
  struct Options {
    std::string directory_url;
    std::string email;   ///< Empty: no contact.
    std::string eab_id;  ///< Empty: no external account binding.
    Bytes eab_key;
    /// Waits; false when the relay is stopping.
    std::function<bool(Duration)> wait;
    std::function<WallTime()> now = [] { return std::chrono::system_clock::now(); };
  };

  /// `https` must outlive this.
  Authority(Https& https, AccountKey key, Options options);

  /// Gets a certificate for `identifier`, proving with `challenge` that it is ours. `profile`
  /// empty: the authority's usual one. The first call looks the account up, or makes it.
  [[nodiscard]] Outcome<IssuedCertificate> obtain(const Identifier& identifier,
                                                  std::string_view profile, Challenge& challenge);

 private:
  struct Directory {
    std::string new_nonce;
    std::string new_account;
    std::string new_order;
  };

  [[nodiscard]] Outcome<void> open_account();
  [[nodiscard]] Outcome<void> read_directory();
  [[nodiscard]] Outcome<std::string> take_nonce();
  void keep_nonce(const HttpsReply& reply);
  /// POST of a JSON payload; empty = POST-as-GET.
  [[nodiscard]] Outcome<HttpsReply> post(const std::string& url, std::string_view payload,
                                         std::string_view what);
  [[nodiscard]] Outcome<nlohmann::json> post_for_object(const std::string& url,
                                                        std::string_view payload,
                                                        std::string_view what);
  /// Asks for `url` until its status is none of `pending`.
  [[nodiscard]] Outcome<nlohmann::json> poll(const std::string& url,
                                             std::span<const std::string_view> pending,
                                             std::string_view what);
  [[nodiscard]] Outcome<void> authorize(const std::string& url, const Identifier& identifier,
                                        Challenge& challenge);
  [[nodiscard]] Outcome<void> answer_challenge(const std::string& authorization_url,
                                               const nlohmann::json& offered,
                                               const Identifier& identifier, Challenge& challenge);
  [[nodiscard]] Outcome<nlohmann::json> finalize(const std::string& order_url,
                                                 const Identifier& identifier, EVP_PKEY* key);

  Https& https_;
  const AccountKey key_;
  const Options options_;
  Directory directory_;
  std::string account_url_;
  std::string nonce_;
  Duration waited_{};  ///< In this order.
};

}  // namespace detour::acme
