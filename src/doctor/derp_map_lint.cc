#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <string_view>
#include <utility>

#include "client/tls_stream.h"
#include "config/address.h"
#include "doctor/derp_map.h"

namespace detour::doctor {
namespace {

constexpr std::string_view kPinPrefix = "sha256-raw:";
constexpr int kOwnRegionFirst = 900;
constexpr int kOwnRegionLast = 999;
constexpr int kPortMax = 65535;

class Linter {
 public:
  explicit Linter(const DerpMap& map) { result_.corrected = map; }

  Linted run() {
    DerpMap& map = result_.corrected;
    if (map.regions.empty()) {
      add(State::kFail, "empty", "the map has no region",
          "Write one with: detour map --hostname NAME");
      return std::move(result_);
    }
    // Where a region gets another number it changes its place.
    std::map<int, MapRegion> regions;
    for (auto& [key, region] : map.regions) {
      check_region(key, region);
      regions.emplace(region.id, std::move(region));
    }
    map.regions = std::move(regions);
    check_codes();
    check_single_node();
    if (result_.findings.empty())
      add(State::kPass, "",
          fmt::format("the map is well-formed: {} region{}, {} node{}", map.regions.size(),
                      map.regions.size() == 1 ? "" : "s", node_count(),
                      node_count() == 1 ? "" : "s"));
    return std::move(result_);
  }

 private:
  void add(State state, std::string_view fault, std::string cause, std::string fix = {}) {
    result_.findings.push_back({.state = state,
                                .code = "D25",
                                .fault = fault,
                                .cause = std::move(cause),
                                .fix = std::move(fix)});
  }
  void changed() { result_.changed = true; }

  std::size_t node_count() const {
    std::size_t count = 0;
    for (const auto& [id, region] : result_.corrected.regions) count += region.nodes.size();
    return count;
  }

  void check_region(int key, MapRegion& region) {
    if (region.id != key) {
      add(State::kFail, "region-mismatch",
          fmt::format("the region under \"{}\" has RegionID {}: clients go by the one or the other",
                      key, region.id),
          fmt::format("Write \"RegionID\": {} in it.", key));
      region.id = key;
      changed();
    }
    if (key <= 0) {
      add(State::kFail, "region-number", fmt::format("{} is no region number", key),
          "Use 900 to 999.");
    } else if (key < kOwnRegionFirst || key > kOwnRegionLast) {
      add(State::kWarn, "region-number",
          fmt::format(
              "region {} lies outside 900 to 999, which are reserved for people's own relays: "
              "it may replace one of Tailscale's",
              key),
          "Use a number from 900 to 999, unless replacing one is meant.");
    }
    if (region.code.empty() || region.name.empty()) {
      add(State::kWarn, "region-name",
          fmt::format("region {} has no RegionCode or no RegionName: "
                      "status and netcheck show a blank",
                      key));
      if (region.code.empty()) region.code = fmt::format("r{}", key);
      if (region.name.empty()) region.name = region.code;
      changed();
    }
    if (region.nodes.empty())
      add(State::kFail, "no-nodes", fmt::format("region {} has no node", key),
          "Add a node, or take the region out.");
    else if (std::ranges::all_of(region.nodes, &MapNode::stun_only))
      add(State::kFail, "stun-only", fmt::format("region {} has nodes for STUN only", key),
          "Take \"STUNOnly\" out of the node that relays.");
    char letter = 'a';
    for (auto& node : region.nodes) check_node(key, letter++, node);
  }

  void check_node(int region, char letter, MapNode& node) {
    const auto proposal = fmt::format("{}{}", region, letter);
    if (node.name.empty()) {
      add(State::kFail, "node-name", fmt::format("a node of region {} has no name", region),
          fmt::format("Write \"Name\": \"{}\".", proposal));
      node.name = proposal;
      changed();
    } else if (!names_.insert(node.name).second) {
      add(State::kFail, "node-name",
          fmt::format("there are two nodes named \"{}\": names must differ in all of the map",
                      node.name),
          fmt::format("Name the one of region {} \"{}\".", region, proposal));
      node.name = names_.contains(proposal) ? node.name + letter : proposal;
      changed();
    }
    names_.insert(node.name);
    if (node.region_id != region) {
      add(State::kFail, "region-mismatch",
          fmt::format("node \"{}\" has RegionID {} and stands in region {}: clients that meet it "
                      "refuse the map or mix the regions up",
                      node.name, node.region_id, region),
          fmt::format("Repeat \"RegionID\": {} in each node.", region));
      node.region_id = region;
      changed();
    }
    check_hostname(node);
    check_ports(node);
    check_pin(node);
    check_addresses(node);
    if (node.insecure_for_tests) {
      add(State::kWarn, "insecure",
          fmt::format(
              "node \"{}\" switches the check of the certificate off: whoever is in between "
              "can be the relay",
              node.name),
          "Take InsecureForTests out, and give a certificate with its full chain, or a pin.");
      if (node.cert_name.starts_with(kPinPrefix)) {
        node.insecure_for_tests = false;
        changed();
      }
    }
  }

  void check_hostname(MapNode& node) {
    if (node.hostname.empty()) {
      add(State::kFail, "hostname", fmt::format("node \"{}\" has no HostName", node.name),
          "Write the name in the relay's certificate, or its IP address.");
      return;
    }
    if (config::parse_hostname(node.hostname, "HostName")) return;
    const auto target = parse_target(node.hostname);
    add(State::kFail, "hostname",
        fmt::format(
            "the HostName \"{}\" of node \"{}\" is no name: it takes neither https:// nor a "
            "port, path, quote or blank",
            node.hostname, node.name),
        target ? fmt::format("Write \"HostName\": \"{}\", \"DERPPort\": {}.", target->host,
                             target->port)
               : "Write the name alone: derp.example.com.");
    if (!target) return;
    node.hostname = target->host;
    if (node.derp_port == 0 && target->port != 443) node.derp_port = target->port;
    changed();
  }

  void check_ports(MapNode& node) {
    if (node.derp_port < 0 || node.derp_port > kPortMax) {
      add(State::kFail, "port",
          fmt::format("DERPPort {} of node \"{}\" is no port", node.derp_port, node.name),
          "Write 1 to 65535; without it 443 is meant.");
      node.derp_port = 0;
      changed();
    }
    if (node.stun_port < -1 || node.stun_port > kPortMax) {
      add(State::kFail, "port",
          fmt::format("STUNPort {} of node \"{}\" is no port", node.stun_port, node.name),
          "Write 1 to 65535, or -1 for none; without it 3478 is meant.");
      node.stun_port = 0;
      changed();
    }
  }

  /// A pin has one form only; people paste what openssl prints.
  void check_pin(MapNode& node) {
    const std::string& given = node.cert_name;
    const bool has_prefix = given.starts_with(kPinPrefix);
    std::string hex = given;
    for (const std::string_view prefix : {"sha256-raw:", "sha256:", "SHA256:", "sha256//"}) {
      if (hex.starts_with(prefix)) {
        hex.erase(0, prefix.size());
        break;
      }
    }
    std::erase_if(hex, [](char c) { return c == ':' || c == ' '; });
    std::ranges::transform(hex, hex.begin(), [](char c) {
      return c >= 'A' && c <= 'F' ? static_cast<char>(c + 32) : c;
    });
    const auto corrected = std::string(kPinPrefix) + hex;
    const bool is_pin = client::parse_pin(corrected).has_value();
    if (!is_pin && !has_prefix) return;  // A name, or nothing.
    if (is_pin && given == corrected) return;
    add(State::kFail, "pin",
        fmt::format("CertName \"{}\" of node \"{}\" is no pin: clients compare sha256-raw: and 64 "
                    "lower-case hex digits, exactly",
                    given, node.name),
        is_pin ? fmt::format("Write \"CertName\": \"{}\".", corrected)
               : "Take the pin from what the relay prints at its start.");
    if (!is_pin) return;
    node.cert_name = corrected;
    changed();
  }

  void check_addresses(MapNode& node) {
    const bool v4_valid = node.ipv4.empty() || node.ipv4 == "none" ||
                          (config::is_ip(node.ipv4) && !config::is_ipv6(node.ipv4));
    const bool v6_valid = node.ipv6.empty() || node.ipv6 == "none" || config::is_ipv6(node.ipv6);
    if (!v4_valid) bad_address("IPv4", &node.ipv4, node);
    if (!v6_valid) bad_address("IPv6", &node.ipv6, node);
    if (node.ipv4 == "none" && node.ipv6 == "none")
      add(State::kFail, "no-address",
          fmt::format("node \"{}\" switches both IPv4 and IPv6 off: nobody reaches it", node.name),
          "Leave \"none\" out of the one that it has.");
    if (!config::is_ip(node.hostname)) return;
    std::string& own = config::is_ipv6(node.hostname) ? node.ipv6 : node.ipv4;
    if (own.empty() || own == node.hostname) return;
    // In the HostName a pinned or self-signed relay has its own address.
    add(State::kWarn, "address-differs",
        fmt::format("node \"{}\" is named {} and dialled at {}", node.name, node.hostname, own),
        "Write the same address into both, or leave the second out.");
  }

  void bad_address(std::string_view field, std::string* value, const MapNode& node) {
    add(State::kFail, "address",
        fmt::format("{} \"{}\" of node \"{}\" is no {} address: clients then do not use {} at all",
                    field, *value, node.name, field, field),
        fmt::format(
            "Write an address, \"none\" to switch {} off, or leave it out for what DNS says.",
            field));
    value->clear();
    changed();
  }

  void check_codes() {
    std::set<std::string> codes;
    for (const auto& [id, region] : result_.corrected.regions) {
      if (!codes.insert(region.code).second)
        add(State::kWarn, "region-name",
            fmt::format("the RegionCode \"{}\" of region {} is used twice: one cannot tell them "
                        "apart",
                        region.code, id));
    }
  }

  void check_single_node() {
    const DerpMap& map = result_.corrected;
    if (!map.omit_default_regions || node_count() != 1) return;
    add(State::kWarn, "single-node",
        "OmitDefaultRegions leaves this one node: when it is down, nodes behind hard NATs do not "
        "reach each other at all",
        "Add a second relay, or set OmitDefaultRegions to false.");
  }

  Linted result_;
  std::set<std::string> names_;
};

}  // namespace

Linted lint_map(const DerpMap& map) {
  return Linter(map).run();
}

}  // namespace detour::doctor
