#pragma once

#include <cstdint>
#include <expected>
#include <string_view>

namespace detour {

/// What went wrong, for everything that the network can cause.
///
/// A code and nothing else: small, trivially copyable, never allocates. The edge that decides to
/// log turns it into words with `describe`.
enum class ErrorCode : std::uint8_t {
  // derp/: frames and handshake.
  kFrameTooLarge,
  kFrameTooSmall,
  kFrameLengthInvalid,
  kFrameNotPermitted,
  kFirstFrameNotClientInfo,
  kClientInfoTooShort,
  kClientInfoTooLong,
  kClientKeyInvalid,
  kBoxInvalid,
  kJsonInvalid,
  kJsonFieldInvalid,
  kMeshKeyInvalid,
  kAppNameInvalid,
  kServerKeyInvalid,
  // stun/.
  kStunNotBindingRequest,
  kStunAttributesMalformed,
  kStunNotTailscale,
  kStunFingerprintInvalid,
  // http/.
  kHttpMalformed,
  kHttpHeadTooLarge,
  // net/: the PROXY protocol.
  kProxyHeaderMissing,
  kProxyHeaderInvalid,
  // crypto/: text forms of keys.
  kKeyTextInvalid,
  // net/.
  kTlsFailed,
  kConnectionClosed,
  kSocketFailed,
};

/// One English clause for `code`, without a full stop: "frame is larger than its type allows".
[[nodiscard]] std::string_view describe(ErrorCode code);

struct Error {
  ErrorCode code;

  friend bool operator==(const Error&, const Error&) = default;
};

template <typename T>
using Result = std::expected<T, Error>;

/// `return fail(ErrorCode::kFrameTooLarge);` in a function that returns any Result.
[[nodiscard]] constexpr std::unexpected<Error> fail(ErrorCode code) {
  return std::unexpected(Error{code});
}

}  // namespace detour
