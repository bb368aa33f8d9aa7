#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "acme/https.h"
#include "acme/signing_request.h"

namespace detour::acme {

/// Why a certificate could not be had.
struct Problem {
  std::string text;  ///< For the operator: what failed, the authority's words, what to do.
  /// The last part of the authority's error type (`rateLimited`); empty when it said none.
  std::string type = {};
  /// The authority wants to be left alone for so long.
  std::optional<std::chrono::seconds> retry_after = {};
  /// Checking that we own the name failed: another kind of challenge may work.
  bool is_challenge = false;
};

/// What an authority's answer means (RFC 7807, RFC 8555 section 6.7). `what` says what was tried.
[[nodiscard]] Problem problem_of_reply(const HttpsReply& reply, std::string_view what,
                                       WallTime now);

/// How a check of `identifier` by a challenge of kind `challenge` failed, with what the operator
/// can do about it.
[[nodiscard]] Problem problem_of_challenge(const Identifier& identifier, std::string_view challenge,
                                           std::string_view type, std::string_view detail);

/// A Retry-After header: seconds, or a date (RFC 9110 section 10.2.3). At most kRetryAfterMax.
inline constexpr std::chrono::seconds kRetryAfterMax = std::chrono::hours(24 * 7);
[[nodiscard]] std::optional<std::chrono::seconds> retry_after(const HttpsReply& reply,
                                                              WallTime now);

}  // namespace detour::acme
