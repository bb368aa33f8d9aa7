#include "admin/map_page.h"

#include <gtest/gtest.h>

#include <string>

namespace detour::admin {
namespace {

http::Request request(std::string method, std::string query, std::string authorization) {
  http::Request made;
  made.method = std::move(method);
  made.path = "/map";
  made.query = std::move(query);
  if (!authorization.empty()) made.headers.emplace_back("Authorization", std::move(authorization));
  return made;
}

MapPage page(std::string token) {
  return {.path = "/map", .token = std::move(token), .render = [] { return "{}"; }};
}

TEST(MapPage, TakesItsOwnPathOnly) {
  EXPECT_TRUE(page("").takes(request("GET", "", "")));
  EXPECT_FALSE(MapPage{}.takes(request("GET", "", "")));
  http::Request other = request("GET", "", "");
  other.path = "/map/";
  EXPECT_FALSE(page("").takes(other));
  other.path = "";
  EXPECT_FALSE(MapPage{}.takes(other));
}

TEST(MapPage, IsForWhoBringsTheToken) {
  struct Case {
    std::string_view method;
    std::string_view query;
    std::string_view authorization;
    unsigned status;
  };
  constexpr Case kCases[] = {
      {"GET", "", "", 403},
      {"GET", "token=", "", 403},
      {"GET", "token=secre", "", 403},
      {"GET", "token=secrets", "", 403},
      {"GET", "atoken=secret", "", 403},
      {"GET", "token=secret", "", 200},
      {"HEAD", "a&token=secret&b", "", 200},
      {"GET", "token=wrong&token=secret", "", 200},
      {"GET", "", "Bearer secret", 200},
      {"GET", "", "Bearer secre", 403},
      {"GET", "", "secret", 403},
      {"POST", "token=secret", "", 405},
  };
  for (const auto& [method, query, authorization, status] : kCases)
    EXPECT_EQ(
        answer_map(request(std::string(method), std::string(query), std::string(authorization)),
                   page("secret"))
            .status,
        status)
        << method << ' ' << query << ' ' << authorization;
  EXPECT_EQ(answer_map(request("GET", "", ""), page("")).status, 200U);
}

}  // namespace
}  // namespace detour::admin
