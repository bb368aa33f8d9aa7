#include "doctor/derp_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "client/tls_stream.h"

namespace detour::doctor {
namespace {

constexpr int kPortMax = 65535;

}  // namespace

std::expected<void, std::string> merge_map(DerpMap* map, const DerpMap& other) {
  map->omit_default_regions = map->omit_default_regions || other.omit_default_regions;
  for (const int id : other.removed) {
    if (!map->regions.contains(id)) map->removed.insert(id);
  }
  for (const auto& [id, region] : other.regions) {
    map->removed.erase(id);
    const auto [place, is_new] = map->regions.emplace(id, region);
    if (is_new) continue;
    for (const auto& node : region.nodes) {
      auto& nodes = place->second.nodes;
      const auto same = std::ranges::find(nodes, node.name, &MapNode::name);
      if (same == nodes.end()) {
        nodes.push_back(node);
      } else if (!(*same == node)) {
        return std::unexpected(fmt::format(
            "two maps have a node \"{}\" in region {}, and they differ: rename one of them",
            node.name, id));
      }
    }
  }
  return {};
}

std::vector<Target> targets_of(const DerpMap& map, std::optional<int> region_id) {
  std::vector<Target> targets;
  for (const auto& [id, region] : map.regions) {
    if (region_id && *region_id != id) continue;
    for (const auto& node : region.nodes) {
      if (node.hostname.empty()) continue;
      Target target;
      target.title =
          fmt::format("region {} \"{}\", node \"{}\" at {}:{}", id, region.code, node.name,
                      node.hostname, node.derp_port == 0 ? 443 : node.derp_port);
      target.host = node.hostname;
      if (node.derp_port > 0 && node.derp_port <= kPortMax)
        target.port = static_cast<std::uint16_t>(node.derp_port);
      target.pin = client::parse_pin(node.cert_name);
      if (!target.pin) target.cert_name = node.cert_name;
      target.insecure = node.insecure_for_tests;
      target.ipv4 = node.ipv4;
      target.ipv6 = node.ipv6;
      if (node.stun_port == -1)
        target.stun_port = std::nullopt;
      else if (node.stun_port > 0 && node.stun_port <= kPortMax)
        target.stun_port = static_cast<std::uint16_t>(node.stun_port);
      if (node.can_port80) target.http_port = 80;
      target.relays = !node.stun_only;
      target.from_map = true;
      targets.push_back(std::move(target));
    }
  }
  return targets;
}

}  // namespace detour::doctor
