#include "base/result.h"

namespace detour {

std::string_view describe(ErrorCode code) {
  switch (code) {
    case ErrorCode::kFrameTooLarge:
      return "frame is larger than its type allows";
    case ErrorCode::kFrameTooSmall:
      return "frame is smaller than its type needs";
    case ErrorCode::kFrameLengthInvalid:
      return "frame length is not the one its type has";
    case ErrorCode::kFrameNotPermitted:
      return "frame is reserved for mesh peers";
    case ErrorCode::kFirstFrameNotClientInfo:
      return "first frame is not ClientInfo";
    case ErrorCode::kClientInfoTooShort:
      return "ClientInfo is shorter than a key and a nonce";
    case ErrorCode::kClientInfoTooLong:
      return "ClientInfo is larger than 256 KiB";
    case ErrorCode::kClientKeyInvalid:
      return "client key is zero or a low-order point";
    case ErrorCode::kBoxInvalid:
      return "sealed box does not open with the stated keys";
    case ErrorCode::kJsonInvalid:
      return "text is not valid JSON";
    case ErrorCode::kJsonFieldInvalid:
      return "JSON field has the wrong type";
    case ErrorCode::kMeshKeyInvalid:
      return "mesh key is not 64 hex digits";
    case ErrorCode::kAppNameInvalid:
      return "app name is longer than 32 bytes or not printable ASCII";
    case ErrorCode::kServerKeyInvalid:
      return "first frame is not a ServerKey frame of DERP";
    case ErrorCode::kStunNotBindingRequest:
      return "datagram is not a STUN binding request";
    case ErrorCode::kStunAttributesMalformed:
      return "STUN attributes run past the datagram";
    case ErrorCode::kStunNotTailscale:
      return "STUN request does not name tailnode as its software";
    case ErrorCode::kStunFingerprintInvalid:
      return "STUN request lacks a valid fingerprint at its end";
    case ErrorCode::kHttpMalformed:
      return "request is not valid HTTP/1";
    case ErrorCode::kHttpHeadTooLarge:
      return "request head is larger than 16 KiB";
    case ErrorCode::kProxyHeaderMissing:
      return "there is no PROXY header";
    case ErrorCode::kProxyHeaderInvalid:
      return "the PROXY header is malformed or larger than 4 KiB";
    case ErrorCode::kKeyTextInvalid:
      return "text is not a key of the expected form";
    case ErrorCode::kTlsFailed:
      return "TLS failed";
    case ErrorCode::kConnectionClosed:
      return "connection was closed by the other side";
    case ErrorCode::kSocketFailed:
      return "socket failed";
  }
  return "unknown error";
}

}  // namespace detour
