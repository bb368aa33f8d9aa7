#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <yaml-cpp/yaml.h>

#include <array>
#include <charconv>
#include <cstdio>
#include <limits>
#include <string_view>
#include <utility>

#include "base/files.h"
#include "doctor/derp_map.h"
#include "http/message.h"

namespace detour::doctor {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kYamlDepthMax = 16;

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

}  // namespace detour::doctor
