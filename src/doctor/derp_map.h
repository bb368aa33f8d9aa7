#pragma once

#include <cstdint>
#include <expected>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "doctor/finding.h"
#include "doctor/target.h"

namespace detour::doctor {

/// A file beyond this size is no DERP map.
inline constexpr std::size_t kMapSizeMax = 4 * 1024 * 1024;

/// One node of a DERP map, with the meaning that tailcfg.DERPNode gives its fields.
struct MapNode {
  std::string name = {};
  int region_id = 0;
  std::string hostname = {};
  std::string cert_name = {};  ///< A name, or `sha256-raw:` and a pin; empty: `hostname`.
  std::string ipv4 = {};       ///< An address, "none", or empty for DNS.
  std::string ipv6 = {};
  int derp_port = 0;  ///< 0 = 443.
  int stun_port = 0;  ///< 0 = 3478, -1 = none.
  bool stun_only = false;
  bool can_port80 = false;
  bool insecure_for_tests = false;

  friend bool operator==(const MapNode&, const MapNode&) = default;
};

struct MapRegion {
  int id = 0;
  std::string code = {};
  std::string name = {};
  std::vector<MapNode> nodes = {};
};

struct DerpMap {
  bool omit_default_regions = false;
  std::map<int, MapRegion> regions;
  std::set<int> removed;  ///< Default regions that a policy file switches off with null.
};

struct ParsedMap {
  DerpMap map;
  std::vector<Finding> findings;  ///< Fields that nobody reads, wrong types: all D25.
  bool repaired = false;          ///< `map` says something else than the text.
};

/// Reads a map: tailcfg JSON, a tailnet policy file (HuJSON, with or without "derpMap" around it)
/// or Headscale's YAML. Field names count in any case, as Go and Headscale take them. Fails with
/// what is wrong and where.
[[nodiscard]] std::expected<ParsedMap, std::string> parse_map(std::string_view text);
/// The same from a file, "-" for standard input.
[[nodiscard]] std::expected<ParsedMap, std::string> read_map(const std::string& path);

/// JSON out of HuJSON: comments and trailing commas become blanks, so that places stay as they are.
[[nodiscard]] std::string standardize_hujson(std::string_view text);

struct Linted {
  std::vector<Finding> findings;  ///< All D25; one PASS when nothing is wrong.
  DerpMap corrected;
  bool changed = false;  ///< `corrected` differs from what was given.
};
/// Looks for everything in a map that clients refuse, ignore or understand otherwise.
[[nodiscard]] Linted lint_map(const DerpMap& map);

enum class MapFormat : std::uint8_t {
  kPolicy,     ///< HuJSON with comments, to paste into a tailnet policy file.
  kHeadscale,  ///< YAML for Headscale's derp.paths.
  kJson,       ///< What Headscale's derp.urls and clients load.
};
[[nodiscard]] std::string render_map(const DerpMap& map, MapFormat format);

/// Adds the regions and nodes of `other`. Fails when both have a node of the same name that is not
/// the same.
[[nodiscard]] std::expected<void, std::string> merge_map(DerpMap* map, const DerpMap& other);

/// The nodes as targets, those of one region only if given. What cannot be dialled at all is left
/// out: lint_map() tells of it.
[[nodiscard]] std::vector<Target> targets_of(const DerpMap& map, std::optional<int> region);

}  // namespace detour::doctor
