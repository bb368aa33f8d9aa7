// ClientInfo: the JSON alone, the same sealed by a client, and as a payload that nobody sealed.
// Input: 1 byte which of them, then the text or the payload.

#include <optional>
#include <span>

#include "base/bytes.h"
#include "base/check.h"
#include "derp/handshake.h"
#include "input.h"
#include "support/keys.h"

namespace {

using namespace detour;
using Bytes = std::span<const std::uint8_t>;

bool same(const derp::ClientInfo& a, const derp::ClientInfo& b) {
  const bool same_mesh_key = a.mesh_key.has_value() == b.mesh_key.has_value() &&
                             (!a.mesh_key || a.mesh_key->matches(*b.mesh_key));
  return same_mesh_key && a.version == b.version && a.can_ack_pings == b.can_ack_pings &&
         a.is_prober == b.is_prober && a.app_name == b.app_name;
}

/// What is accepted must mean the same after we wrote it ourselves.
void parse(Bytes text) {
  const auto info = derp::parse_client_info(as_text(text));
  if (!info) return;
  const auto again = derp::parse_client_info(derp::format_client_info(*info));
  DETOUR_CHECK(again.has_value());
  DETOUR_CHECK(same(*info, *again));
}

/// Sealing must not change what is accepted.
void seal_and_open(Bytes text) {
  static const auto relay_key = test::relay_private();
  static const auto client_key = test::client_a_public();
  static const auto shared =
      crypto::SharedKey::derive(test::client_a_private(), test::relay_public()).value();

  std::vector<std::uint8_t> payload(client_key.bytes().begin(), client_key.bytes().end());
  const auto box = shared.seal(text, crypto::Nonce{});
  payload.insert(payload.end(), box.begin(), box.end());
  const auto info = derp::parse_client_info(as_text(text));
  const auto hello = derp::open_client_info(payload, relay_key);
  DETOUR_CHECK(hello.has_value() == info.has_value());
  if (hello) {
    DETOUR_CHECK(hello->key == client_key && same(hello->info, *info));
  } else {
    DETOUR_CHECK(hello.error() == info.error());
  }
}

void open(Bytes payload) {
  static const auto relay_key = test::relay_private();
  const auto hello = derp::open_client_info(payload, relay_key);
  if (hello) (void)derp::encode_server_info(hello->shared);
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* /*argc*/, char*** /*argv*/) {
  DETOUR_CHECK(crypto::init());
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Bytes input(data, size);
  switch (fuzz::take_byte(input)) {
    case 'o':
      open(input);
      break;
    case 's':
      seal_and_open(input);
      break;
    default:
      parse(input);
  }
  return 0;
}
