#include "doctor/derp_map.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <functional>
#include <limits>
#include <utility>

#include "base/files.h"
#include "client/tls_stream.h"
#include "config/address.h"
#include "http/message.h"

namespace detour::doctor {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kPinPrefix = "sha256-raw:";
constexpr int kOwnRegionFirst = 900;
constexpr int kOwnRegionLast = 999;
constexpr int kPortMax = 65535;
constexpr int kYamlDepthMax = 16;

// --- Reading
// --------------------------------------------------------------------------------------

/// YAML as JSON. A scalar in quotes is a text, others are what they look like.
Json to_json(const YAML::Node& node, int depth) {
  if (depth > kYamlDepthMax) throw YAML::Exception(node.Mark(), "nested too deeply");
  switch (node.Type()) {
    case YAML::NodeType::Sequence: {
      Json list = Json::array();
      for (const auto& item : node) list.push_back(to_json(item, depth + 1));
      return list;
    }
    case YAML::NodeType::Map: {
      Json object = Json::object();
      for (const auto& item : node)
        object[item.first.as<std::string>()] = to_json(item.second, depth + 1);
      return object;
    }
    case YAML::NodeType::Scalar: {
      const std::string& text = node.Scalar();
      if (node.Tag() == "!") return text;
      std::int64_t number = 0;
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
      if (error == std::errc{} && end == text.data() + text.size()) return number;
      if (text == "true" || text == "false") return text == "true";
      return text;
    }
    default:
      return nullptr;
  }
}

/// Goes over an object's fields, in any case of their names, and keeps what is odd.
class Reader {
 public:
  explicit Reader(ParsedMap* parsed) : parsed_(parsed) {}

  void odd(State state, std::string_view fault, std::string cause, std::string fix = {}) {
    parsed_->findings.push_back({.state = state,
                                 .code = "D25",
                                 .fault = fault,
                                 .cause = std::move(cause),
                                 .fix = std::move(fix)});
  }

  void read_map(const Json& object) {
    for (const auto& [key, value] : object.items()) {
      if (is(key, "Regions")) {
        read_regions(value);
      } else if (is(key, "OmitDefaultRegions")) {
        read(&parsed_->map.omit_default_regions, value, key);
      } else if (!is(key, "HomeParams")) {
        unknown(key, "the map");
      }
    }
  }

 private:
  static bool is(std::string_view key, std::string_view name) {
    return http::equals_ignoring_case(key, name);
  }

  void unknown(std::string_view key, std::string_view where) {
    odd(State::kWarn, "unknown-field",
        fmt::format("{} has a field \"{}\", which no client reads", where, key),
        "Check its spelling, or take it out.");
  }

  void wrong_type(std::string_view where, const Json& value, std::string_view expected) {
    odd(State::kFail, "wrong-type",
        fmt::format("{} is {} and has to be {}: clients refuse the whole map", where, value.dump(),
                    expected));
    parsed_->repaired = true;
  }

  void read(std::string* out, const Json& value, std::string_view where) {
    if (value.is_string()) {
      *out = value.get<std::string>();
    } else if (!value.is_null()) {
      wrong_type(where, value, "a text in quotes");
      *out = value.dump();
    }
  }

  void read(bool* out, const Json& value, std::string_view where) {
    if (value.is_boolean()) {
      *out = value.get<bool>();
    } else if (!value.is_null()) {
      wrong_type(where, value, "true or false");
      *out = value.is_string() && is(value.get<std::string>(), "true");
    }
  }

  void read(int* out, const Json& value, std::string_view where) {
    if (value.is_number_integer()) {
      const auto number = value.get<std::int64_t>();
      *out = static_cast<int>(std::clamp<std::int64_t>(number, std::numeric_limits<int>::min(),
                                                       std::numeric_limits<int>::max()));
    } else if (!value.is_null()) {
      wrong_type(where, value, "a number without quotes");
      if (!value.is_string()) return;
      const auto text = value.get<std::string>();
      (void)std::from_chars(text.data(), text.data() + text.size(), *out);
    }
  }

  void read_regions(const Json& regions) {
    if (!regions.is_object()) return wrong_type("Regions", regions, "an object of regions");
    for (const auto& [key, value] : regions.items()) {
      int id = 0;
      const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
      if (error != std::errc{} || end != key.data() + key.size()) {
        odd(State::kFail, "region-key",
            fmt::format("\"{}\" in Regions is no number: clients refuse the whole map", key),
            "The key of a region is its RegionID: \"900\".");
        parsed_->repaired = true;
        continue;
      }
      if (value.is_null()) {
        parsed_->map.removed.insert(id);
      } else if (value.is_object()) {
        parsed_->map.regions[id] = read_region(value, id);
      } else {
        wrong_type(fmt::format("region {}", id), value, "an object");
      }
    }
  }

  MapRegion read_region(const Json& object, int id) {
    MapRegion region;
    const auto where = fmt::format("region {}", id);
    for (const auto& [key, value] : object.items()) {
      const auto place = fmt::format("{} of {}", key, where);
      if (is(key, "RegionID")) {
        read(&region.id, value, place);
      } else if (is(key, "RegionCode")) {
        read(&region.code, value, place);
      } else if (is(key, "RegionName")) {
        read(&region.name, value, place);
      } else if (is(key, "Nodes")) {
        if (!value.is_array()) {
          if (!value.is_null()) wrong_type(place, value, "a list of nodes");
          continue;
        }
        for (const auto& node : value) {
          if (node.is_object())
            region.nodes.push_back(read_node(node, where));
          else
            wrong_type(fmt::format("a node of {}", where), node, "an object");
        }
      } else if (!is(key, "Avoid") && !is(key, "NoMeasureNoHome") && !is(key, "Latitude") &&
                 !is(key, "Longitude")) {
        unknown(key, where);
      }
    }
    return region;
  }

  MapNode read_node(const Json& object, const std::string& region) {
    MapNode node;
    for (const auto& [key, value] : object.items()) {
      const auto place = fmt::format("{} of a node of {}", key, region);
      if (is(key, "Name"))
        read(&node.name, value, place);
      else if (is(key, "RegionID"))
        read(&node.region_id, value, place);
      else if (is(key, "HostName"))
        read(&node.hostname, value, place);
      else if (is(key, "CertName"))
        read(&node.cert_name, value, place);
      else if (is(key, "IPv4"))
        read(&node.ipv4, value, place);
      else if (is(key, "IPv6"))
        read(&node.ipv6, value, place);
      else if (is(key, "DERPPort"))
        read(&node.derp_port, value, place);
      else if (is(key, "STUNPort"))
        read(&node.stun_port, value, place);
      else if (is(key, "STUNOnly"))
        read(&node.stun_only, value, place);
      else if (is(key, "CanPort80"))
        read(&node.can_port80, value, place);
      else if (is(key, "InsecureForTests"))
        read(&node.insecure_for_tests, value, place);
      else if (!is(key, "STUNTestIP"))
        unknown(key, fmt::format("a node of {}", region));
    }
    return node;
  }

  ParsedMap* parsed_;
};

/// The map itself, out of whatever is around it.
const Json* find_map(const Json& all) {
  if (!all.is_object()) return nullptr;
  const Json* map = nullptr;
  for (const auto& [key, value] : all.items()) {
    if (http::equals_ignoring_case(key, "derpMap")) return &value;
    if (http::equals_ignoring_case(key, "regions")) map = &all;
  }
  return map;
}

// --- Judging
// --------------------------------------------------------------------------------------

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

// --- Writing
// --------------------------------------------------------------------------------------

std::string quoted(const std::string& text) {
  return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
}

/// The fields of a node that say something, with their values in JSON.
std::vector<std::pair<std::string, std::string>> fields_of(const MapNode& node) {
  std::vector<std::pair<std::string, std::string>> fields = {
      {"Name", quoted(node.name)},
      {"RegionID", fmt::format("{}", node.region_id)},
      {"HostName", quoted(node.hostname)}};
  const auto add_text = [&fields](const char* name, const std::string& value) {
    if (!value.empty()) fields.emplace_back(name, quoted(value));
  };
  const auto add_number = [&fields](const char* name, int value) {
    if (value != 0) fields.emplace_back(name, fmt::format("{}", value));
  };
  const auto add_flag = [&fields](const char* name, bool value) {
    if (value) fields.emplace_back(name, "true");
  };
  add_text("CertName", node.cert_name);
  add_text("IPv4", node.ipv4);
  add_text("IPv6", node.ipv6);
  add_number("DERPPort", node.derp_port);
  add_number("STUNPort", node.stun_port);
  add_flag("STUNOnly", node.stun_only);
  add_flag("CanPort80", node.can_port80);
  add_flag("InsecureForTests", node.insecure_for_tests);
  return fields;
}

std::string lower(std::string text) {
  std::ranges::transform(text, text.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  });
  return text;
}

/// In HuJSON's comments, so that whoever edits the map later knows.
std::string_view comment_for(std::string_view field) {
  if (field == "CertName") return "The pin of the self-signed certificate, or the name in it.";
  if (field == "DERPPort") return "TCP; 443 without this line.";
  if (field == "STUNPort") return "UDP; 3478 without this line, -1 for none.";
  if (field == "IPv4" || field == "IPv6")
    return "Dialled instead of asking DNS; \"none\": not used.";
  return {};
}

std::string json_map(const DerpMap& map, std::string_view indent, bool comments) {
  std::string text = "{\n";
  const auto line = [&](int depth, const std::string& content) {
    text += fmt::format("{}{}{}\n", indent, std::string(static_cast<std::size_t>(depth) * 2, ' '),
                        content);
  };
  if (comments) line(1, "// true switches Tailscale's own relays off: then only these are left.");
  line(1, fmt::format("\"OmitDefaultRegions\": {},", map.omit_default_regions));
  line(1, "\"Regions\": {");
  std::size_t left = map.regions.size() + map.removed.size();
  for (const int id : map.removed)
    line(2, fmt::format("\"{}\": null{}", id, --left > 0 ? "," : ""));
  for (const auto& [id, region] : map.regions) {
    line(2, fmt::format("\"{}\": {{", id));
    line(3, fmt::format("\"RegionID\": {},", region.id));
    line(3, fmt::format("\"RegionCode\": {},", quoted(region.code)));
    line(3, fmt::format("\"RegionName\": {},", quoted(region.name)));
    line(3, "\"Nodes\": [");
    for (std::size_t i = 0; i < region.nodes.size(); ++i) {
      line(4, "{");
      const auto fields = fields_of(region.nodes[i]);
      for (std::size_t f = 0; f < fields.size(); ++f) {
        const auto comment = comments ? comment_for(fields[f].first) : std::string_view();
        if (!comment.empty()) line(5, fmt::format("// {}", comment));
        line(5, fmt::format("\"{}\": {}{}", fields[f].first, fields[f].second,
                            f + 1 < fields.size() ? "," : ""));
      }
      line(4, i + 1 < region.nodes.size() ? "}," : "}");
    }
    line(3, "]");
    line(2, --left > 0 ? "}," : "}");
  }
  line(1, "}");
  text += fmt::format("{}}}", indent);
  return text;
}

std::string yaml_map(const DerpMap& map) {
  // A JSON text is a YAML text in double quotes, and its numbers and true are YAML's.
  std::string text = "# DERP map for Headscale: list this file under derp.paths.\n";
  if (map.omit_default_regions) text += "omitdefaultregions: true\n";
  text += "regions:\n";
  for (const int id : map.removed) text += fmt::format("  {}: null\n", id);
  for (const auto& [id, region] : map.regions) {
    text += fmt::format("  {}:\n    regionid: {}\n    regioncode: {}\n    regionname: {}\n", id,
                        region.id, quoted(region.code), quoted(region.name));
    text += region.nodes.empty() ? "    nodes: []\n" : "    nodes:\n";
    for (const auto& node : region.nodes) {
      std::string_view begin = "      - ";
      for (const auto& [name, value] : fields_of(node)) {
        text += fmt::format("{}{}: {}\n", begin, lower(name), value);
        begin = "        ";
      }
    }
  }
  return text;
}

}  // namespace

std::string standardize_hujson(std::string_view text) {
  std::string out(text);
  std::size_t comma = std::string::npos;  // The last one with only blanks and comments behind it.
  for (std::size_t i = 0; i < out.size(); ++i) {
    const char c = out[i];
    if (c == '"') {
      for (++i; i < out.size() && out[i] != '"'; ++i) {
        if (out[i] == '\\') ++i;
      }
      comma = std::string::npos;
    } else if (c == '/' && i + 1 < out.size() && (out[i + 1] == '/' || out[i + 1] == '*')) {
      const bool is_line = out[i + 1] == '/';
      std::size_t end = is_line ? out.find('\n', i) : out.find("*/", i + 2);
      if (end == std::string::npos)
        end = out.size();
      else if (!is_line)
        end += 2;
      for (; i < end; ++i) {
        if (out[i] != '\n') out[i] = ' ';
      }
      --i;
    } else if (c == ',') {
      comma = i;
    } else if (c == '}' || c == ']') {
      if (comma != std::string::npos) out[comma] = ' ';
      comma = std::string::npos;
    } else if (c != ' ' && c != '\t' && c != '\r' && c != '\n') {
      comma = std::string::npos;
    }
  }
  return out;
}

std::expected<ParsedMap, std::string> parse_map(std::string_view text) {
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  std::string json_text = standardize_hujson(text);
  const auto first = json_text.find_first_not_of(" \t\r\n");
  if (first == std::string::npos) return std::unexpected("the map is empty");
  Json all;
  if (json_text[first] == '{' || json_text[first] == '[') {
    try {
      all = Json::parse(json_text);
    } catch (const Json::exception& error) {
      return std::unexpected(fmt::format("it is no JSON: {}", error.what()));
    }
  } else {
    try {
      all = to_json(YAML::Load(std::string(text)), 0);
    } catch (const YAML::Exception& error) {
      return std::unexpected(fmt::format("it is neither JSON nor YAML: {}", error.what()));
    }
  }
  const Json* map = find_map(all);
  if (map == nullptr || !map->is_object())
    return std::unexpected(
        "there is no \"Regions\" and no \"derpMap\" in it: a DERP map begins {\"Regions\": "
        "{\"900\": {...}}}");
  ParsedMap parsed;
  Reader(&parsed).read_map(*map);
  return parsed;
}

std::expected<ParsedMap, std::string> read_map(const std::string& path) {
  std::string text;
  if (path == "-") {
    std::array<char, 16 * 1024> buffer;
    std::size_t size = 0;
    while ((size = std::fread(buffer.data(), 1, buffer.size(), stdin)) > 0) {
      text.append(buffer.data(), size);
      if (text.size() > kMapSizeMax) return std::unexpected("the map is too large");
    }
  } else {
    auto content = read_file(path, kMapSizeMax);
    if (!content) return std::unexpected(content.error().message);
    text = std::move(*content);
  }
  return parse_map(text);
}

Linted lint_map(const DerpMap& map) {
  return Linter(map).run();
}

std::string render_map(const DerpMap& map, MapFormat format) {
  switch (format) {
    case MapFormat::kPolicy:
      return "{\n"
             "  // DERP map. In the tailnet policy file \"derpMap\" stands beside \"acls\" or "
             "\"grants\".\n"
             "  \"derpMap\": " +
             json_map(map, "  ", true) + "\n}\n";
    case MapFormat::kHeadscale:
      return yaml_map(map);
    case MapFormat::kJson:
      return json_map(map, "", false) + "\n";
  }
  return {};
}

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
