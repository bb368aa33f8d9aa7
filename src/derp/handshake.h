#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "crypto/box.h"
#include "crypto/keys.h"
#include "crypto/shared_key_cache.h"
#include "derp/frame.h"

/// ClientInfo and ServerInfo: the two sealed JSON messages of a login (docs/protocol.md,
/// Handshake).
namespace detour::derp {

/// What a client says about itself.
struct ClientInfo {
  std::optional<crypto::MeshKey> mesh_key{};  ///< Absent when not sent or all zero.
  std::int64_t version = 0;
  bool can_ack_pings = false;
  bool is_prober = false;
  std::string app_name{};  ///< At most 32 bytes of printable ASCII.
};

/// Parses the JSON of a ClientInfo the way Go's decoder does: field names in any case, unknown
/// fields ignored, the last of several wins, `null` leaves a plain field alone, nothing but white
/// space after the value. Fails with kJsonInvalid, kJsonFieldInvalid, kMeshKeyInvalid or
/// kAppNameInvalid.
[[nodiscard]] Result<ClientInfo> parse_client_info(std::string_view json);
[[nodiscard]] std::string format_client_info(const ClientInfo& info);

/// A client's first frame, opened.
struct ClientHello {
  crypto::NodePublic key;
  ClientInfo info;
  crypto::SharedKey shared;  ///< Seals the ServerInfo that answers it.
};

/// Whether this header may begin a login. Fails with kFirstFrameNotClientInfo, kClientInfoTooShort
/// (under 56 bytes) or kClientInfoTooLong (over 256 KiB), before any payload is buffered.
[[nodiscard]] Result<void> admit_client_info(FrameHeader header);

/// Opens a ClientInfo payload: client key (32 bytes), nonce (24), tag (16), sealed JSON.
/// Fails as admit_client_info and parse_client_info do, with kClientKeyInvalid and kBoxInvalid.
/// `known` spares a client that it knows the X25519, and gets to know the others; null: none.
[[nodiscard]] Result<ClientHello> open_client_info(std::span<const std::uint8_t> payload,
                                                   const crypto::NodePrivate& relay_key,
                                                   crypto::SharedKeyCache* known = nullptr);

/// The whole ServerInfo frame that answers a login: nonce (24), tag (16), sealed `{"version":2}`.
[[nodiscard]] std::vector<std::uint8_t> encode_server_info(const crypto::SharedKey& shared);

/// The client's side: a whole ClientInfo frame.
[[nodiscard]] std::vector<std::uint8_t> encode_client_info(const crypto::NodePublic& client_key,
                                                           const crypto::SharedKey& shared,
                                                           const ClientInfo& info);

/// The client's side: opens a ServerInfo payload and gives its `version`.
[[nodiscard]] Result<std::int64_t> open_server_info(std::span<const std::uint8_t> payload,
                                                    const crypto::SharedKey& shared);

}  // namespace detour::derp
