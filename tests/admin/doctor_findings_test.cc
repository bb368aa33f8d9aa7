#include "admin/doctor_findings.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>

namespace detour::admin {
namespace {

DoctorFindings::Finding finding(std::string state = "FAIL") {
  return {.state = std::move(state),
          .code = "D06",
          .fault = "leaf-only",
          .check = "certificate chain",
          .cause = "the file has the leaf alone",
          .fix = "install fullchain.pem"};
}

DoctorFindings findings(std::size_t count, const std::string& state = "FAIL") {
  DoctorFindings made;
  made.sections.push_back({.title = "this machine", .findings = {}});
  for (std::size_t i = 0; i < count; ++i) made.sections[0].findings.push_back(finding(state));
  return made;
}

std::string one_with(std::string_view name, std::string_view value) {
  std::string text = R"({"sections":[{"title":"t","findings":[{)";
  for (const std::string_view key : {"state", "code", "fault", "check", "cause", "fix"}) {
    std::string_view told = key == "state" ? R"("PASS")" : key == "code" ? R"("D01")" : R"("")";
    if (key == name) told = value;
    if (!told.empty()) text += fmt::format("\"{}\":{},", key, told);
  }
  text.back() = '}';
  return text + "]}]}";
}

TEST(DoctorFindings, AreReadAsTheyWereWritten) {
  auto all = findings(3);
  all.sections[0].findings[1] = finding("PASS");
  all.sections[0].findings[2].fix = "";
  all.sections.push_back({.title = "名字 <b>", .findings = {finding("WARN"), finding("INFO")}});
  const auto again = DoctorFindings::parse(all.format());
  ASSERT_TRUE(again.has_value()) << again.error();
  EXPECT_EQ(*again, all);
  EXPECT_EQ(again->count(), 5U);
  EXPECT_EQ(DoctorFindings::parse(DoctorFindings().format())->count(), 0U);
}

TEST(DoctorFindings, SayWhatIsWrongWithThem) {
  const std::pair<std::string, std::string> kCases[] = {
      {"", "a JSON object is needed"},
      {"[]", "a JSON object is needed"},
      {"{", "a JSON object is needed"},
      {"null", "a JSON object is needed"},
      {std::string(10'000, '['), "a JSON object is needed"},
      {"{}", "sections: a list is needed"},
      {R"({"sections":{}})", "sections: a list is needed"},
      {R"({"sections":[1]})", "sections[0]: an object is needed"},
      {R"({"sections":[{}]})", "sections[0].title: a text is needed"},
      {R"({"sections":[{"title":"t"}]})", "sections[0].findings: a list is needed"},
      {R"({"sections":[{"title":"t","findings":[[]]}]})",
       "sections[0].findings[0]: an object is needed"},
      {R"({"sections":[],"leftOut":-1})", "leftOut: a number is needed"},
      {R"({"sections":[],"leftOut":"1"})", "leftOut: a number is needed"},
      {one_with("state", R"("BAD")"), ".state: PASS, INFO, WARN or FAIL is needed"},
      {one_with("state", R"("pass")"), ".state: PASS, INFO, WARN or FAIL is needed"},
      {one_with("state", "1"), ".state: a text is needed"},
      {one_with("code", R"("D1")"), ".code: D and two digits are needed"},
      {one_with("code", R"("D001")"), ".code: D and two digits are needed"},
      {one_with("code", R"("X01")"), ".code: D and two digits are needed"},
      {one_with("code", R"("D0x")"), ".code: D and two digits are needed"},
      {one_with("cause", ""), ".cause: a text is needed"},
      {one_with("fix", "null"), ".fix: a text is needed"},
  };
  for (const auto& [text, problem] : kCases) {
    const auto parsed = DoctorFindings::parse(text);
    ASSERT_FALSE(parsed.has_value()) << text;
    EXPECT_TRUE(parsed.error().starts_with("findings: ")) << parsed.error();
    EXPECT_NE(parsed.error().find(problem), std::string::npos) << parsed.error();
  }
  EXPECT_TRUE(DoctorFindings::parse(one_with("", "")).has_value());
}

TEST(DoctorFindings, AreTakenUpToTheirBoundsAndNotBeyond) {
  const auto text_of = [](std::size_t size) {
    return one_with("cause", '"' + std::string(size, 'x') + '"');
  };
  EXPECT_TRUE(DoctorFindings::parse(text_of(DoctorFindings::kTextMax)).has_value());
  EXPECT_FALSE(DoctorFindings::parse(text_of(DoctorFindings::kTextMax + 1)).has_value());

  const auto sections = [](std::size_t count) {
    std::string text = R"({"sections":[)";
    for (std::size_t i = 0; i < count; ++i)
      text += fmt::format(R"({}{{"title":"","findings":[]}})", i == 0 ? "" : ",");
    return text + "]}";
  };
  EXPECT_TRUE(DoctorFindings::parse(sections(DoctorFindings::kSectionsMax)).has_value());
  EXPECT_FALSE(DoctorFindings::parse(sections(DoctorFindings::kSectionsMax + 1)).has_value());

  // Over two sections: the bound is that of all.
  const auto many = [](std::size_t count) {
    std::string text = R"({"sections":[{"title":"","findings":[)";
    for (std::size_t i = 0; i < count; ++i) {
      if (i == 150) text += R"(]},{"title":"","findings":[)";
      text += R"({"state":"PASS","code":"D01","fault":"","check":"","cause":"","fix":""})";
      if (i + 1 != count && i != 149) text += ',';
    }
    return text + "]}]}";
  };
  EXPECT_EQ(DoctorFindings::parse(many(DoctorFindings::kFindingsMax))->count(),
            DoctorFindings::kFindingsMax);
  EXPECT_FALSE(DoctorFindings::parse(many(DoctorFindings::kFindingsMax + 1)).has_value());

  std::string whole = one_with("", "");
  whole.resize(DoctorFindings::kBytesMax, ' ');
  EXPECT_TRUE(DoctorFindings::parse(whole).has_value());
  EXPECT_FALSE(DoctorFindings::parse(whole + " ").has_value());
}

TEST(DoctorFindings, AreCutSoThatTheyCanBeTaken) {
  // Those that passed go first.
  auto many = findings(DoctorFindings::kFindingsMax, "PASS");
  many.sections[0].findings.push_back(finding("WARN"));
  auto taken = DoctorFindings::parse(many.format());
  ASSERT_TRUE(taken.has_value()) << taken.error();
  EXPECT_EQ(taken->count(), 1U);
  EXPECT_EQ(taken->left_out, DoctorFindings::kFindingsMax);

  // Too many that did not pass: the first ones stay.
  taken = DoctorFindings::parse(findings(DoctorFindings::kFindingsMax + 5).format());
  ASSERT_TRUE(taken.has_value()) << taken.error();
  EXPECT_EQ(taken->left_out, 5U);

  // Too large: fewer of them, and their long texts end early, not within a character.
  auto large = findings(40);
  for (auto& one : large.sections[0].findings) {
    one.cause = "x";
    while (one.cause.size() < 2 * DoctorFindings::kTextMax) one.cause += "名";
  }
  const auto text = large.format();
  EXPECT_LE(text.size(), DoctorFindings::kBytesMax);
  taken = DoctorFindings::parse(text);
  ASSERT_TRUE(taken.has_value()) << taken.error();
  EXPECT_GT(taken->count(), 5U);
  EXPECT_EQ(taken->count() + taken->left_out, 40U);
  const auto& cause = taken->sections[0].findings[0].cause;
  EXPECT_GT(cause.size(), DoctorFindings::kTextMax - 3);
  EXPECT_EQ(cause, large.sections[0].findings[0].cause.substr(0, cause.size()));

  // More sections than are taken, and bytes that are no UTF-8.
  DoctorFindings strange;
  for (std::size_t i = 0; i <= DoctorFindings::kSectionsMax; ++i)
    strange.sections.push_back({.title = "\xff\xfe", .findings = {finding()}});
  taken = DoctorFindings::parse(strange.format());
  ASSERT_TRUE(taken.has_value()) << taken.error();
  EXPECT_EQ(taken->sections.size(), DoctorFindings::kSectionsMax);
  EXPECT_EQ(taken->left_out, 1U);
}

}  // namespace
}  // namespace detour::admin
