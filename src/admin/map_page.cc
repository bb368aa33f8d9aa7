#include "admin/map_page.h"

#include <algorithm>
#include <string_view>

#include "base/check.h"

namespace detour::admin {
namespace {

/// Takes as long for any two texts of one length, because one of them is a secret.
bool equal_in_constant_time(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  unsigned difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    difference |= static_cast<unsigned>(static_cast<unsigned char>(a[i] ^ b[i]));
  return difference == 0;
}

bool brings_token(const http::Request& request, const std::string& token) {
  constexpr std::string_view kBearer = "Bearer ";
  constexpr std::string_view kName = "token=";
  const auto header = request.header("Authorization");
  if (header.starts_with(kBearer) && equal_in_constant_time(header.substr(kBearer.size()), token))
    return true;
  std::string_view query = request.query;
  while (!query.empty()) {
    const auto pair = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(query.size(), pair.size() + 1));
    if (pair.starts_with(kName) && equal_in_constant_time(pair.substr(kName.size()), token))
      return true;
  }
  return false;
}

}  // namespace

http::Response answer_map(const http::Request& request, const MapPage& page) {
  if (request.method != "GET" && request.method != "HEAD")
    return http::text_error(405, "the DERP map is read with GET");
  if (!page.token.empty() && !brings_token(request, page.token))
    return http::text_error(403, "the DERP map needs its token");
  DETOUR_CHECK(page.render);
  http::Response response;
  response.body = page.render();
  response.with("Content-Type", "application/json")
      .with("Cache-Control", "no-store")
      .with("X-Content-Type-Options", "nosniff");
  return response;
}

}  // namespace detour::admin
