#include "acme/problem.h"

#include <curl/curl.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>
#include <utility>

#include "acme/json.h"

namespace detour::acme {
namespace {

constexpr std::string_view kTypePrefix = "urn:ietf:params:acme:error:";
constexpr std::size_t kDetailMax = 600;

/// One line of what somebody else wrote, fit for a log.
std::string as_detail(std::string_view text) {
  std::string line(text.substr(0, kDetailMax));
  for (char& c : line)
    if (static_cast<unsigned char>(c) < 0x20) c = ' ';
  return line;
}

/// What to do about an error that concerns the account or the order.
std::string_view advice(std::string_view type) {
  struct Advice {
    std::string_view type;
    std::string_view text;
  };
  constexpr Advice kAdvices[] = {
      {"rateLimited",
       "too many certificates or failed attempts lately: it is tried again when that is over; "
       "keep the certificate folder across restarts and new containers"},
      {"externalAccountRequired",
       "this authority wants an account that it knows: set --acme-eab-kid and --acme-eab-key "
       "(derper: -acme-eab-kid, -acme-eab-key)"},
      {"rejectedIdentifier",
       "this authority gives no certificates for this name: use a name of your own domain"},
      {"unsupportedIdentifier",
       "this authority gives no certificates for such names: for an IP address use one that does "
       "(Let's Encrypt), or a certificate that clients pin (--cert-mode manual)"},
      {"unsupportedContact", "set --acme-email to an address that the authority accepts"},
      {"invalidContact", "set --acme-email to an address that the authority accepts"},
      {"invalidProfile", "this authority has no certificates of that kind"},
      {"caa",
       "a CAA record of the domain forbids it: let it name this authority, for Let's Encrypt "
       "`0 issue \"letsencrypt.org\"`"},
      {"unauthorized",
       "the account's key or its binding is not accepted: check --acme-eab-kid and "
       "--acme-eab-key where they are used"},
      {"accountDoesNotExist", "move acme_account+key in the certificate folder away"},
      {"userActionRequired", "agree to the authority's new terms: see the link in its answer"},
      {"serverInternal", "it is the authority's fault: it is tried again later"},
  };
  const auto* const found = std::ranges::find(kAdvices, type, &Advice::type);
  return found == std::end(kAdvices) ? std::string_view() : found->text;
}

std::string subproblems(const nlohmann::json& body) {
  std::string text;
  const auto found = body.find("subproblems");
  if (found == body.end() || !found->is_array()) return text;
  int left = 3;
  for (const auto& one : *found)
    if (left-- > 0) text += fmt::format("; {}", as_detail(text_member(one, "detail")));
  return text;
}

}  // namespace

std::optional<std::chrono::seconds> retry_after(const HttpsReply& reply, WallTime now) {
  const std::string_view text = reply.header("retry-after");
  if (text.empty()) return std::nullopt;
  std::int64_t seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (error != std::errc() || end != text.data() + text.size()) {
    const std::time_t date = curl_getdate(std::string(text).c_str(), nullptr);
    if (date < 0) return std::nullopt;
    seconds = date - std::chrono::system_clock::to_time_t(now);
  }
  return std::clamp(std::chrono::seconds(seconds), std::chrono::seconds(0), kRetryAfterMax);
}

Problem problem_of_reply(const HttpsReply& reply, std::string_view what, WallTime now) {
  Problem problem{.text = "", .retry_after = retry_after(reply, now)};
  const auto body = parse_object(reply.body);
  if (!body) {
    problem.text = fmt::format("{}: the server answers with status {} and no ACME error: {}", what,
                               reply.status, as_detail(reply.body.substr(0, 120)));
    return problem;
  }
  std::string type = text_member(*body, "type");
  if (type.starts_with(kTypePrefix)) type.erase(0, kTypePrefix.size());
  problem.text = fmt::format("{}: the authority refuses: {} ({}, status {}){}", what,
                             as_detail(text_member(*body, "detail")), as_detail(type), reply.status,
                             subproblems(*body));
  if (const auto todo = advice(type); !todo.empty()) problem.text += fmt::format("; {}", todo);
  problem.type = std::move(type);
  return problem;
}

Problem problem_of_challenge(const Identifier& identifier, std::string_view challenge,
                             std::string_view type, std::string_view detail) {
  if (type.starts_with(kTypePrefix)) type.remove_prefix(kTypePrefix.size());
  const std::string& name = identifier.value;
  const bool by_http = challenge == "http-01";
  const bool by_dns = challenge == "dns-01";
  const int port = by_http ? 80 : 443;
  std::string todo;
  if (type == "caa") {
    todo = advice("caa");
  } else if (by_dns) {
    todo = fmt::format(
        "the hook has to publish exactly the value it is given as TXT record _acme-challenge.{}, "
        "and to return when it can be seen",
        name);
  } else if (type == "dns") {
    todo = fmt::format(
        "{} needs an A or AAAA record that leads to this machine, and none that leads elsewhere; "
        "it may take a while until a new one is seen",
        name);
  } else {
    // Authorities differ in what they call the same failure.
    todo = fmt::format(
        "the authority has to reach this relay at TCP port {} of {} from the outside: check that "
        "its DNS records (also AAAA) lead here, that the firewall and the provider let that port "
        "through, and that no other server or proxy answers there",
        port, name);
  }
  return {.text = fmt::format("{} for {} failed: {} ({}); {}", challenge, name, as_detail(detail),
                              as_detail(type), todo),
          .type = std::string(type),
          .retry_after = std::nullopt,
          .is_challenge = true};
}

}  // namespace detour::acme
