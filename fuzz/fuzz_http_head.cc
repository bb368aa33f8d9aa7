// An HTTP request: its head whole and split, its body, and what each listener answers. Input: 2
// bytes where to split, then what a client sent.

#include <algorithm>
#include <optional>
#include <span>

#include "admin/routes.h"
#include "base/check.h"
#include "http/body.h"
#include "http/message.h"
#include "input.h"

namespace {

using namespace detour;
using Bytes = std::span<const std::uint8_t>;

bool same(const http::Request& a, const http::Request& b) {
  return a.method == b.method && a.target == b.target && a.path == b.path && a.query == b.query &&
         a.version == b.version && a.headers == b.headers && a.keep_alive == b.keep_alive &&
         a.body_size == b.body_size;
}

/// The end of a body does not depend on how its bytes arrive.
void skip_body(const http::Request& request, Bytes bytes, std::size_t split_at) {
  http::BodySkipper whole(request);
  const auto used = whole.skip(bytes);

  const auto first = bytes.first(std::min(split_at, bytes.size()));
  http::BodySkipper parts(request);
  const auto first_used = parts.skip(first);
  if (!first_used) {
    DETOUR_CHECK(!used);
    return;
  }
  DETOUR_CHECK(parts.done() || *first_used == first.size());
  const auto second_used = parts.skip(bytes.subspan(*first_used));
  DETOUR_CHECK(second_used.has_value() == used.has_value());
  if (!used) return;
  DETOUR_CHECK(*first_used + *second_used == *used);
  DETOUR_CHECK(parts.done() == whole.done());
}

/// Whatever came in, what goes out is one head and the body it announces.
void check_response(const http::Response& response, const http::Request& request) {
  const std::string text = http::serialize(response, request, /*unix_seconds=*/0);
  const std::size_t end = text.find("\r\n\r\n");
  DETOUR_CHECK(end != std::string::npos);
  const bool has_body = request.method != "HEAD" && response.status != 204;
  DETOUR_CHECK(end + 4 + (has_body ? response.body.size() : 0) == text.size());
}

const admin::Site& site() {
  static const admin::Site site = [] {
    admin::Site result;
    result.debug_access.debug_key = "key";
    result.has_mesh_key = [] { return false; };
    result.render_prometheus = [] { return std::string("x 1\n"); };
    result.render_expvar_json = [] { return std::string("{}\n"); };
    result.find_inconsistencies = [] { return std::string(); };
    result.bootstrap_dns = [](std::string_view query, std::string_view) {
      return std::string(query);
    };
    result.uptime = [] { return std::chrono::seconds(1); };
    return result;
  }();
  return site;
}

void answer(const http::Request& request) {
  using admin::Listener;
  for (const auto listener : {Listener::kMainTls, Listener::kMainPlain, Listener::kHttpPort}) {
    (void)admin::derp_upgrade(request, site(), listener);
    for (const std::string_view peer_ip : {"127.0.0.1", "203.0.113.7"}) {
      const auto response =
          admin::route(request, site(), {.listener = listener, .peer_ip = peer_ip});
      // A stranger reads a debug page with the key only.
      const bool may_hold_key = request.query.find_first_of("k%") != std::string::npos;
      if (peer_ip != "127.0.0.1" && !may_hold_key) {
        DETOUR_CHECK(response.body != "x 1\n" && response.body != "{}\n");
      }
      check_response(response, request);
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Bytes input(data, size);
  const std::size_t split = static_cast<std::size_t>(fuzz::take_byte(input)) << 8;
  const std::size_t split_at = split | fuzz::take_byte(input);

  const auto parsed = http::parse_request(input);
  if (!parsed) {
    // Once refused, more bytes change nothing.
    return 0;
  }
  if (!*parsed) {
    DETOUR_CHECK(input.size() <= http::kRequestHeadMax);
    return 0;
  }
  const auto& [request, head_size] = **parsed;
  DETOUR_CHECK(head_size <= input.size() && head_size <= http::kRequestHeadMax);
  DETOUR_CHECK(request.headers.size() <= http::kRequestHeadersMax);
  DETOUR_CHECK(request.body_size <= http::kRequestBodyMax);

  // The head alone is the same request, and no part of it is one or is refused.
  const auto alone = http::parse_request(input.first(head_size));
  DETOUR_CHECK(alone && *alone && (*alone)->head_size == head_size);
  DETOUR_CHECK(same((*alone)->request, request));
  const auto part = http::parse_request(input.first(split_at % head_size));
  DETOUR_CHECK(part && !*part);

  skip_body(request, input.subspan(head_size), split_at);
  answer(request);
  return 0;
}
