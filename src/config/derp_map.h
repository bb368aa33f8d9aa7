#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace detour::config {

/// One relay as clients have to know it.
struct DerpMapEntry {
  int region_id = 900;  ///< 900 to 999 are reserved for people's own relays.
  std::string region_code = "detour";
  std::string region_name = "Detour";
  std::string node_name = "900a";
  std::string hostname = {};   ///< DNS name or IP literal.
  std::string cert_name = {};  ///< Pin of a self-signed certificate; empty otherwise.
  std::string ipv4 = {};       ///< Dialled instead of asking DNS; empty = leave out.
  std::string ipv6 = {};
  std::uint16_t derp_port = 443;
  std::optional<std::uint16_t> stun_port = 3478;  ///< nullopt = no STUN (-1 in the map).
  bool can_port80 = false;
};

/// The DERP map with this one region, as JSON to paste into a tailnet policy file's `derpMap` or to
/// serve to Headscale. Ends without a newline. Tailscale's own regions stay in use beside it; to
/// switch them off, set `OmitDefaultRegions` to true.
[[nodiscard]] std::string derp_map_snippet(const DerpMapEntry& entry);

/// The node alone, on one line: `{"Name":"900a","RegionID":900,...}`.
[[nodiscard]] std::string derp_map_node(const DerpMapEntry& entry);

}  // namespace detour::config
