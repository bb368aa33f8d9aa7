#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "crypto/keys.h"

namespace detour::admission {

/// What a source said about one client.
enum class Answer : std::uint8_t {
  kAllowed,
  kDenied,
  kFailed,       ///< Answered with something that is no answer.
  kUnreachable,  ///< Did not answer.
};
inline constexpr std::size_t kAnswerCount = 4;

struct Reply {
  Answer answer = Answer::kUnreachable;
  /// Unless kAllowed: what the source said and what can be done, a clause for the log.
  std::string reason{};
};

enum class SourceKind : std::uint8_t { kTailscaled, kUrl };
inline constexpr std::size_t kSourceKindCount = 2;

/// A local tailscaled is asked for this long. Together with kControllerTimeout it stays below the
/// time that a login has.
inline constexpr Duration kTailscaledTimeout = std::chrono::seconds(3);
/// An admission controller is asked for this long, as derper does.
inline constexpr Duration kControllerTimeout = std::chrono::seconds(5);
/// What is looked at of a controller's answer, as derper does.
inline constexpr std::size_t kControllerBodyMax = 4096;
/// A node with all its capabilities takes some ten kilobytes.
inline constexpr std::size_t kWhoisBodyMax = std::size_t{1} << 20;

/// Path and query of the LocalAPI request.
[[nodiscard]] std::string whois_path(const crypto::NodePublic& key);
/// What tailscaled's answer to it means. `socket` is named in the reason.
[[nodiscard]] Reply whois_reply(std::string_view socket, long status, std::string_view body);

/// The body of the request to an admission controller. `source` is the client's address, empty when
/// it is not known.
[[nodiscard]] std::string controller_request(const crypto::NodePublic& key,
                                             std::string_view source);
/// What the controller's answer means. The JSON is read as Go's decoder does: the name in any case,
/// the last of several, whatever stands behind the first value.
[[nodiscard]] Reply controller_reply(std::string_view url, long status, std::string_view body);

/// A socket that cannot be connected to, by errno.
[[nodiscard]] Reply socket_failure(std::string_view socket, int error);

}  // namespace detour::admission
