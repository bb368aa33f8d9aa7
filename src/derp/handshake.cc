#include "derp/handshake.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <utility>
#include <variant>

#include "derp/json_fields.h"

namespace detour::derp {
namespace {

using crypto::kKeySize;
using crypto::kNonceSize;
using crypto::MeshKey;
using crypto::NodePrivate;
using crypto::NodePublic;
using crypto::SharedKey;

/// Key and nonce. The 16 bytes of the box's tag are missing here as they are in the reference,
/// where a box too short is one that does not open.
constexpr std::size_t kClientInfoSizeMin = kKeySize + kNonceSize;
/// The longest ServerInfo that clients read.
constexpr std::size_t kServerInfoSizeMax = std::size_t{1} << 20;

/// Stores `value` in `out`. `null` leaves it alone, any type but T is refused.
template <typename T, typename Out>
[[nodiscard]] Result<void> assign(const JsonScalar& value, Out& out) {
  if (std::holds_alternative<JsonNull>(value)) return {};
  const T* typed = std::get_if<T>(&value);
  if (typed == nullptr) return fail(ErrorCode::kJsonFieldInvalid);
  out = *typed;
  return {};
}

/// A mesh key has its own decoder in the reference, so `null` and "" are refused here.
[[nodiscard]] Result<void> assign_mesh_key(const JsonScalar& value, std::optional<MeshKey>& out) {
  const auto* text = std::get_if<std::string_view>(&value);
  if (text == nullptr) return fail(ErrorCode::kMeshKeyInvalid);

  const auto key = MeshKey::parse(*text);
  if (!key) return std::unexpected(key.error());
  // Clients of the 1.85 series send an all-zero key where they mean none.
  if (key->is_zero()) {
    out.reset();
  } else {
    out = *key;
  }
  return {};
}

/// 0 to 32 bytes of printable ASCII (v1.104).
[[nodiscard]] bool is_app_name(std::string_view text) {
  const auto printable = [](char c) { return c >= 0x20 && c <= 0x7e; };
  return text.size() <= kAppNameSizeMax && std::ranges::all_of(text, printable);
}

/// Header, then `parts` one behind the other.
[[nodiscard]] std::vector<std::uint8_t> join_frame(
    FrameType type, std::initializer_list<std::span<const std::uint8_t>> parts) {
  std::vector<std::uint8_t> frame(kFrameHeaderSize);
  for (const auto part : parts) frame.insert(frame.end(), part.begin(), part.end());
  write_frame_header(
      std::span(frame).first<kFrameHeaderSize>(),
      {.type = type, .payload_size = static_cast<std::uint32_t>(frame.size() - kFrameHeaderSize)});
  return frame;
}

}  // namespace

Result<ClientInfo> parse_client_info(std::string_view json) {
  ClientInfo info;
  const auto read = read_json_fields(
      json, [&info](std::string_view name, const JsonScalar& value) -> Result<void> {
        if (name == "meshkey") return assign_mesh_key(value, info.mesh_key);
        if (name == "version") return assign<std::int64_t>(value, info.version);
        if (name == "canackpings") return assign<bool>(value, info.can_ack_pings);
        if (name == "isprober") return assign<bool>(value, info.is_prober);
        if (name == "appname") return assign<std::string_view>(value, info.app_name);
        return {};
      });
  if (!read) return std::unexpected(read.error());
  // Only the last of several names counts, so it is judged here and not where it is read.
  if (!is_app_name(info.app_name)) return fail(ErrorCode::kAppNameInvalid);
  return info;
}

std::string format_client_info(const ClientInfo& info) {
  // Names and order of the official client, which leaves out what is empty except CanAckPings.
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  if (info.mesh_key) json["meshKey"] = info.mesh_key->hex_secret();
  if (info.version != 0) json["version"] = info.version;
  json["CanAckPings"] = info.can_ack_pings;
  if (info.is_prober) json["IsProber"] = true;
  if (!info.app_name.empty()) json["AppName"] = info.app_name;
  return json.dump(/*indent=*/-1, ' ', /*ensure_ascii=*/false,
                   nlohmann::ordered_json::error_handler_t::replace);
}

Result<void> admit_client_info(FrameHeader header) {
  if (header.type != FrameType::kClientInfo) return fail(ErrorCode::kFirstFrameNotClientInfo);
  if (header.payload_size < kClientInfoSizeMin) return fail(ErrorCode::kClientInfoTooShort);
  if (header.payload_size > kClientInfoSizeMax) return fail(ErrorCode::kClientInfoTooLong);
  return {};
}

Result<ClientHello> open_client_info(std::span<const std::uint8_t> payload,
                                     const NodePrivate& relay_key, crypto::SharedKeyCache* known) {
  if (payload.size() < kClientInfoSizeMin) return fail(ErrorCode::kClientInfoTooShort);
  if (payload.size() > kClientInfoSizeMax) return fail(ErrorCode::kClientInfoTooLong);

  const auto client_key = NodePublic::from_bytes(payload.first<kKeySize>());
  const auto cached = known != nullptr ? known->find(client_key) : std::nullopt;
  const auto shared = cached ? *cached : SharedKey::derive(relay_key, client_key);
  if (!shared) return std::unexpected(shared.error());

  const auto json = shared->open(payload.subspan(kKeySize));
  if (!json) return std::unexpected(json.error());
  if (known != nullptr && !cached) known->remember(client_key, *shared);

  auto info = parse_client_info(as_text(*json));
  if (!info) return std::unexpected(info.error());
  return ClientHello{.key = client_key, .info = std::move(*info), .shared = *shared};
}

std::vector<std::uint8_t> encode_server_info(const SharedKey& shared) {
  static_assert(kProtocolVersion == 2);
  const auto box = shared.seal(as_bytes(R"({"version":2})"));
  return join_frame(FrameType::kServerInfo, {box});
}

std::vector<std::uint8_t> encode_client_info(const NodePublic& client_key, const SharedKey& shared,
                                             const ClientInfo& info) {
  const auto box = shared.seal(as_bytes(format_client_info(info)));
  return join_frame(FrameType::kClientInfo, {client_key.bytes(), box});
}

Result<std::int64_t> open_server_info(std::span<const std::uint8_t> payload,
                                      const SharedKey& shared) {
  if (payload.size() > kServerInfoSizeMax) return fail(ErrorCode::kFrameTooLarge);
  const auto json = shared.open(payload);
  if (!json) return std::unexpected(json.error());

  std::int64_t version = 0;
  const auto read = read_json_fields(
      as_text(*json), [&version](std::string_view name, const JsonScalar& value) -> Result<void> {
        if (name == "version") return assign<std::int64_t>(value, version);
        return {};
      });
  if (!read) return std::unexpected(read.error());
  return version;
}

}  // namespace detour::derp
