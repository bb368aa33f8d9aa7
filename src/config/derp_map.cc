#include "config/derp_map.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace detour::config {
namespace {

constexpr std::uint16_t kDefaultDerpPort = 443;
constexpr std::uint16_t kDefaultStunPort = 3478;
constexpr int kIndent = 2;

nlohmann::ordered_json node_of(const DerpMapEntry& entry) {
  nlohmann::ordered_json node;
  node["Name"] = entry.node_name;
  node["RegionID"] = entry.region_id;
  node["HostName"] = entry.hostname;
  if (!entry.cert_name.empty()) node["CertName"] = entry.cert_name;
  if (!entry.ipv4.empty()) node["IPv4"] = entry.ipv4;
  if (!entry.ipv6.empty()) node["IPv6"] = entry.ipv6;
  if (entry.derp_port != kDefaultDerpPort) node["DERPPort"] = entry.derp_port;
  if (!entry.stun_port)
    node["STUNPort"] = -1;
  else if (*entry.stun_port != kDefaultStunPort)
    node["STUNPort"] = *entry.stun_port;
  if (entry.can_port80) node["CanPort80"] = true;
  return node;
}

}  // namespace

std::string derp_map_snippet(const DerpMapEntry& entry) {
  nlohmann::ordered_json region;
  region["RegionID"] = entry.region_id;
  region["RegionCode"] = entry.region_code;
  region["RegionName"] = entry.region_name;
  region["Nodes"] = nlohmann::ordered_json::array({node_of(entry)});

  nlohmann::ordered_json map;
  map["OmitDefaultRegions"] = false;
  map["Regions"][fmt::format("{}", entry.region_id)] = region;
  return map.dump(kIndent);
}

std::string derp_map_node(const DerpMapEntry& entry) {
  return node_of(entry).dump();
}

}  // namespace detour::config
