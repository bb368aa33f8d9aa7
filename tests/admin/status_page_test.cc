#include "admin/status_page.h"

#include <gtest/gtest.h>
#include <openssl/evp.h>

#include <array>
#include <string>
#include <vector>

namespace detour::admin {
namespace {

/// What stands between the only `begin` in the page and the `end` behind it.
std::string between(std::string_view begin, std::string_view end) {
  const std::string_view page = status_page_html();
  const std::size_t first = page.find(begin);
  EXPECT_NE(first, std::string_view::npos) << begin;
  EXPECT_EQ(first, page.rfind(begin)) << begin;
  const auto rest = page.substr(first + begin.size());
  return std::string(rest.substr(0, rest.find(end)));
}

std::string policy_hash(const std::string& text) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  EXPECT_EQ(EVP_Digest(text.data(), text.size(), digest.data(), &size, EVP_sha256(), nullptr), 1);
  std::vector<unsigned char> base64(2 * EVP_MAX_MD_SIZE);
  const int length = EVP_EncodeBlock(base64.data(), digest.data(), static_cast<int>(size));
  return "'sha256-" + std::string(base64.begin(), base64.begin() + length) + "'";
}

TEST(StatusPage, LetsItsOwnScriptAndStyleRunAndNothingElse) {
  const std::string policy(status_page_policy());
  EXPECT_NE(policy.find("script-src " + policy_hash(between("<script>", "</script>")) + ";"),
            std::string::npos)
      << policy;
  EXPECT_NE(policy.find("style-src " + policy_hash(between("<style>", "</style>")) + ";"),
            std::string::npos)
      << policy;
  for (const std::string_view part :
       {"default-src 'none'; ", "connect-src 'self'; ", "frame-ancestors 'none'; ",
        "base-uri 'none'; ", "form-action 'none'; ", "require-trusted-types-for 'script'"})
    EXPECT_NE(policy.find(part), std::string::npos) << part;
  EXPECT_EQ(policy.find("unsafe"), std::string::npos);
}

TEST(StatusPage, IsOneFileThatNamesNoOther) {
  const std::string_view page = status_page_html();
  for (const std::string_view part :
       {" src=", "@import", "url(", "<base", "<iframe", "<object", "href=\"http", "href=\"/",
        " onclick=", " onload=", " style=\"", "http-equiv"})
    EXPECT_EQ(page.find(part), std::string_view::npos) << part;
  EXPECT_NE(page.find("Leon Sorokin"), std::string_view::npos) << "uPlot's licence notice";
  EXPECT_LT(page.size(), 128U * 1024);
}

TEST(StatusPage, ComesWithItsHeaders) {
  const auto response = status_page();
  EXPECT_EQ(response.status, 200U);
  EXPECT_EQ(response.body, status_page_html());
  const auto header = [&response](std::string_view name) {
    for (const auto& [key, value] : response.headers)
      if (key == name) return value;
    return std::string();
  };
  EXPECT_EQ(header("Content-Type"), "text/html; charset=utf-8");
  EXPECT_EQ(header("Content-Security-Policy"), status_page_policy());
  EXPECT_EQ(header("X-Content-Type-Options"), "nosniff");
  EXPECT_EQ(header("Referrer-Policy"), "no-referrer");
  EXPECT_EQ(header("Cache-Control"), "no-store");
}

}  // namespace
}  // namespace detour::admin
