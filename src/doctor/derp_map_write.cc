#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <string_view>
#include <utility>

#include "doctor/derp_map.h"

namespace detour::doctor {
namespace {

using Json = nlohmann::ordered_json;

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

}  // namespace detour::doctor
