#pragma once

#include <string_view>

#include "crypto/keys.h"

/// The keys that docs/protocol.md uses in its examples (X25519, computed there).
namespace detour::test {

inline constexpr std::string_view kRelayPrivate =
    "privkey:1011111111111111111111111111111111111111111111111111111111111151";
inline constexpr std::string_view kRelayPublic =
    "nodekey:7b4e909bbe7ffe44c465a220037d608ee35897d31ef972f07f74892cb0f73f13";
inline constexpr std::string_view kClientAPrivate =
    "privkey:2022222222222222222222222222222222222222222222222222222222222262";
inline constexpr std::string_view kClientAPublic =
    "nodekey:0faa684ed28867b97f4a6a2dee5df8ce974e76b7018e3f22a1c4cf2678570f20";
inline constexpr std::string_view kClientBPrivate =
    "privkey:3033333333333333333333333333333333333333333333333333333333333373";
inline constexpr std::string_view kClientBPublic =
    "nodekey:7b0d47d93427f8311160781c7c733fd89f88970aef490d8aa0ee19a4cb8a1b14";
inline constexpr std::string_view kMeshPeerPrivate =
    "privkey:4044444444444444444444444444444444444444444444444444444444444444";
inline constexpr std::string_view kMeshPeerPublic =
    "nodekey:ff2ee45601ec1b67310c7790404585ae697331eee1c1f8cf2419731c1fff3e6b";

[[nodiscard]] inline crypto::NodePrivate relay_private() {
  return crypto::NodePrivate::parse(kRelayPrivate).value();
}
[[nodiscard]] inline crypto::NodePublic relay_public() {
  return crypto::NodePublic::parse(kRelayPublic).value();
}
[[nodiscard]] inline crypto::NodePrivate client_a_private() {
  return crypto::NodePrivate::parse(kClientAPrivate).value();
}
[[nodiscard]] inline crypto::NodePublic client_a_public() {
  return crypto::NodePublic::parse(kClientAPublic).value();
}
[[nodiscard]] inline crypto::NodePrivate client_b_private() {
  return crypto::NodePrivate::parse(kClientBPrivate).value();
}
[[nodiscard]] inline crypto::NodePublic client_b_public() {
  return crypto::NodePublic::parse(kClientBPublic).value();
}
[[nodiscard]] inline crypto::NodePublic mesh_peer_public() {
  return crypto::NodePublic::parse(kMeshPeerPublic).value();
}

}  // namespace detour::test
