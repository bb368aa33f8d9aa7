#include "doctor/derp_map.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace detour::doctor {
namespace {

TEST(StandardizeHujson, BlanksCommentsAndTrailingCommasInPlace) {
  struct Case {
    std::string_view hujson;
    std::string_view json;
  };
  constexpr Case kCases[] = {
      {"{\"a\":1,}", "{\"a\":1 }"},
      {"[1, /* , */ 2, // x,\n ]", "[1,         2       \n ]"},
      {"{\"a\":\"//,}\",\"b\":\"\\\"/*\"}", "{\"a\":\"//,}\",\"b\":\"\\\"/*\"}"},
      {"// only a comment", "                 "},
      {"/* open", "       "},
      {"{} /", "{} /"},
  };
  for (const auto& [hujson, json] : kCases) {
    EXPECT_EQ(standardize_hujson(hujson), json) << hujson;
    EXPECT_EQ(standardize_hujson(hujson).size(), hujson.size());
  }
}

constexpr std::string_view kNode =
    R"({"Name":"900a","RegionID":900,"HostName":"derp.example.com","DERPPort":8443,"STUNPort":-1})";

std::string map_with(std::string_view node) {
  return std::string(
             R"({"Regions":{"900":{"RegionID":900,"RegionCode":"a","RegionName":"A","Nodes":[)") +
         std::string(node) + "]}}}";
}

TEST(ParseMap, ReadsEveryFormTheSame) {
  const std::string forms[] = {
      map_with(kNode),
      "// a policy file\n{\"acls\": [], \"derpMap\": " + map_with(kNode) + ",}",
      "\xef\xbb\xbf" + map_with(kNode),
      "regions:\n  900:\n    regionid: 900\n    regioncode: a\n    regionname: \"A\"\n    nodes:\n"
      "      - name: 900a\n        regionid: 900\n        hostname: derp.example.com\n"
      "        derpport: 8443\n        stunport: -1\n",
  };
  for (const auto& form : forms) {
    const auto parsed = parse_map(form);
    ASSERT_TRUE(parsed) << form << parsed.error();
    EXPECT_TRUE(parsed->findings.empty()) << form;
    ASSERT_EQ(parsed->map.regions.size(), 1U);
    const auto& region = parsed->map.regions.at(900);
    EXPECT_EQ(region.name, "A");
    ASSERT_EQ(region.nodes.size(), 1U);
    EXPECT_EQ(region.nodes[0].hostname, "derp.example.com");
    EXPECT_EQ(region.nodes[0].derp_port, 8443);
    EXPECT_EQ(region.nodes[0].stun_port, -1);
  }
}

TEST(ParseMap, SaysWhereTheTextIsWrong) {
  for (const std::string_view text :
       {"", "{", "{\"Regions\":", "[]", "{\"acls\":[]}", "regions: [", "just words", "{} x"}) {
    const auto parsed = parse_map(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_FALSE(parsed.error().empty());
  }
  EXPECT_FALSE(parse_map(std::string(100'000, '[')));
  std::string deep = "regions:\n";
  for (int i = 0; i < 40; ++i)
    deep += std::string(static_cast<std::size_t>(i + 1) * 2, ' ') + "a:\n";
  EXPECT_FALSE(parse_map(deep + std::string(90, ' ') + "b: 1\n"));
}

TEST(RenderMap, GivesWhatParseMapReads) {
  auto parsed = parse_map(map_with(
      R"({"Name":"900a","RegionID":900,"HostName":"203.0.113.7","CertName":"sha256-raw:ab","IPv6":"none","CanPort80":true,"STUNOnly":true,"InsecureForTests":true},)" +
      std::string(kNode)));
  ASSERT_TRUE(parsed);
  DerpMap map = parsed->map;
  map.omit_default_regions = true;
  map.removed = {1, 2};
  map.regions.at(900).name = "Quote \" backslash \\ colon: # \u65e5\u672c\n end";
  for (const MapFormat format : {MapFormat::kPolicy, MapFormat::kHeadscale, MapFormat::kJson}) {
    const auto text = render_map(map, format);
    const auto again = parse_map(text);
    ASSERT_TRUE(again) << text << again.error();
    EXPECT_TRUE(again->findings.empty()) << text;
    EXPECT_EQ(again->map.omit_default_regions, true);
    EXPECT_EQ(again->map.removed, map.removed);
    EXPECT_EQ(again->map.regions.at(900).name, map.regions.at(900).name);
    EXPECT_EQ(again->map.regions.at(900).nodes, map.regions.at(900).nodes);
  }
}

TEST(MergeMap, AddsNodesAndRefusesTwoThatDiffer) {
  DerpMap map = parse_map(map_with(kNode))->map;
  const DerpMap same = map;
  ASSERT_TRUE(merge_map(&map, same));
  EXPECT_EQ(map.regions.at(900).nodes.size(), 1U);

  DerpMap more = same;
  more.regions.at(900).nodes[0].name = "900b";
  ASSERT_TRUE(merge_map(&map, more));
  EXPECT_EQ(map.regions.at(900).nodes.size(), 2U);

  DerpMap other = same;
  other.regions.at(900).nodes[0].hostname = "other.example.com";
  EXPECT_FALSE(merge_map(&map, other));
}

TEST(LintMap, LeavesACorrectMapAlone) {
  const auto linted = lint_map(parse_map(map_with(kNode))->map);
  EXPECT_FALSE(linted.changed);
  ASSERT_EQ(linted.findings.size(), 1U);
  EXPECT_EQ(linted.findings[0].state, State::kPass);
}

}  // namespace
}  // namespace detour::doctor
