#include "acme/authority.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <utility>

#include "acme/json.h"

namespace detour::acme {
namespace {

using nlohmann::json;
using namespace std::string_view_literals;

constexpr std::string_view kPostType = "application/jose+json";
constexpr std::array kInProgress = {"pending"sv, "processing"sv};
constexpr std::array kProcessing = {"processing"sv};
constexpr std::size_t kNonceSizeMax = 512;
constexpr std::size_t kTokenSizeMax = 512;
/// Between two looks at what the authority works on, unless it says how long.
constexpr Duration kPollFirst = std::chrono::milliseconds(250);
constexpr Duration kPollMax = std::chrono::seconds(5);
constexpr std::chrono::seconds kPollRetryAfterMax{30};

std::unexpected<Problem> complain(std::string text) {
  return std::unexpected(Problem{.text = std::move(text)});
}

bool is_base64url(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
  });
}

bool is_https(std::string_view url) {
  return url.starts_with("https://");
}

std::string stopping() {
  return "the relay is stopping";
}

}  // namespace

Authority::Authority(Https& https, AccountKey key, Options options)
    : https_(https), key_(std::move(key)), options_(std::move(options)) {}

// --- Requests -----------------------------------------------------------------------------------

Outcome<void> Authority::read_directory() {
  if (!directory_.new_order.empty()) return {};
  const std::string what = "reading the authority's directory";
  const auto reply = https_.send({.method = "GET", .url = options_.directory_url});
  if (!reply) return complain(fmt::format("{}: {}", what, reply.error()));
  if (reply->status != 200)
    return std::unexpected(problem_of_reply(
        *reply, fmt::format("{} {}", what, options_.directory_url), options_.now()));
  const auto body = parse_object(reply->body);
  Directory directory;
  if (body)
    directory = {.new_nonce = text_member(*body, "newNonce"),
                 .new_account = text_member(*body, "newAccount"),
                 .new_order = text_member(*body, "newOrder")};
  if (!is_https(directory.new_nonce) || !is_https(directory.new_account) ||
      !is_https(directory.new_order))
    return complain(
        fmt::format("{} is no ACME directory: it has to be a JSON object with newNonce, newAccount "
                    "and newOrder; check the URL",
                    options_.directory_url));
  directory_ = std::move(directory);
  return {};
}

void Authority::keep_nonce(const HttpsReply& reply) {
  const std::string_view nonce = reply.header("replay-nonce");
  nonce_ = is_base64url(nonce) && nonce.size() <= kNonceSizeMax ? nonce : std::string_view();
}

Outcome<std::string> Authority::take_nonce() {
  if (nonce_.empty()) {
    const auto reply = https_.send({.method = "HEAD", .url = directory_.new_nonce});
    if (!reply) return complain(fmt::format("getting a nonce: {}", reply.error()));
    keep_nonce(*reply);
    if (nonce_.empty())
      return std::unexpected(problem_of_reply(*reply, "getting a nonce", options_.now()));
  }
  return std::exchange(nonce_, {});
}

Outcome<HttpsReply> Authority::post(const std::string& url, std::string_view payload,
                                    std::string_view what) {
  if (!is_https(url))
    return complain(fmt::format("{}: the authority names \"{}\", which is no https:// URL", what,
                                std::string_view(url).substr(0, 200)));
  for (int attempt = 0;; ++attempt) {
    const auto nonce = take_nonce();
    if (!nonce) return std::unexpected(nonce.error());
    auto reply = https_.send({.method = "POST",
                              .url = url,
                              .body = key_.sign_request(url, *nonce, account_url_, payload),
                              .content_type = std::string(kPostType)});
    if (!reply) return complain(fmt::format("{}: {}", what, reply.error()));
    keep_nonce(*reply);
    if (reply->status >= 200 && reply->status < 300) return std::move(*reply);

    Problem problem = problem_of_reply(*reply, what, options_.now());
    // The authority did not look at the request; the refusal brought a fresh nonce.
    if (problem.type == "badNonce" && attempt < kNonceRetries) continue;
    return std::unexpected(std::move(problem));
  }
}

Outcome<json> Authority::post_for_object(const std::string& url, std::string_view payload,
                                         std::string_view what) {
  const auto reply = post(url, payload, what);
  if (!reply) return std::unexpected(reply.error());
  auto body = parse_object(reply->body);
  if (!body) return complain(fmt::format("{}: the authority's answer is no JSON object", what));
  return std::move(*body);
}

Outcome<json> Authority::poll(const std::string& url, std::span<const std::string_view> pending,
                              std::string_view what) {
  Duration pause = kPollFirst;
  for (;;) {
    const auto reply = post(url, "", what);
    if (!reply) return std::unexpected(reply.error());
    auto body = parse_object(reply->body);
    if (!body) return complain(fmt::format("{}: the authority's answer is no JSON object", what));
    const std::string status = text_member(*body, "status");
    if (std::ranges::find(pending, status) == pending.end()) return std::move(*body);

    Duration next = pause;
    if (const auto asked = retry_after(*reply, options_.now()))
      next = std::max<Duration>(std::min(*asked, kPollRetryAfterMax), kPollFirst);
    pause = std::min(2 * pause, kPollMax);
    if (waited_ + next > kOrderTimeout)
      return complain(fmt::format("{}: the authority has not decided within {} s", what,
                                  kOrderTimeout.count()));
    waited_ += next;
    if (!options_.wait(next)) return complain(stopping());
  }
}

// --- Account ------------------------------------------------------------------------------------

Outcome<void> Authority::open_account() {
  if (!account_url_.empty()) return {};
  if (auto read = read_directory(); !read) return read;

  json payload{{"termsOfServiceAgreed", true}};
  if (!options_.email.empty()) payload["contact"] = json::array({"mailto:" + options_.email});
  if (!options_.eab_id.empty())
    payload["externalAccountBinding"] =
        json::parse(bind_account(key_, directory_.new_account, options_.eab_id, options_.eab_key));
  const auto reply = post(directory_.new_account, to_text(payload), "opening an account");
  if (!reply) return std::unexpected(reply.error());
  account_url_ = reply->header("location");
  if (!is_https(account_url_)) {
    account_url_.clear();
    return complain("opening an account: the authority does not say where the account is");
  }
  return {};
}

// --- Orders -------------------------------------------------------------------------------------

Outcome<void> Authority::answer_challenge(const std::string& authorization_url, const json& offered,
                                          const Identifier& identifier, Challenge& challenge) {
  const std::string token = text_member(offered, "token");
  const std::string url = text_member(offered, "url");
  if (!is_base64url(token) || token.size() > kTokenSizeMax)
    return complain(fmt::format("{} for {}: the authority's token is malformed", challenge.type(),
                                identifier.value));
  const std::string answer = key_.key_authorization(token);
  if (const auto presented = challenge.present(identifier, token, answer); !presented)
    return std::unexpected(Problem{
        .text = fmt::format("{} for {}: {}", challenge.type(), identifier.value, presented.error()),
        .is_challenge = true});

  const std::string what = fmt::format("{} for {}", challenge.type(), identifier.value);
  Outcome<void> done;
  if (const auto started = post(url, "{}", what); !started) {
    done = std::unexpected(started.error());
  } else if (const auto checked = poll(authorization_url, kInProgress, what); !checked) {
    done = std::unexpected(checked.error());
  } else if (text_member(*checked, "status") != "valid") {
    // The reason is with the challenge that was tried.
    json error = json::object();
    const auto challenges = checked->find("challenges");
    if (challenges != checked->end() && challenges->is_array())
      for (const auto& one : *challenges)
        if (text_member(one, "type") == challenge.type() && one.contains("error"))
          error = one["error"];
    done = std::unexpected(problem_of_challenge(
        identifier, challenge.type(), text_member(error, "type"), text_member(error, "detail")));
  }
  challenge.remove(identifier, token, answer);
  return done;
}

Outcome<void> Authority::authorize(const std::string& url, const Identifier& identifier,
                                   Challenge& challenge) {
  const std::string what = fmt::format("asking how to prove that {} is ours", identifier.value);
  const auto authorization = post_for_object(url, "", what);
  if (!authorization) return std::unexpected(authorization.error());
  const std::string status = text_member(*authorization, "status");
  if (status == "valid") return {};  // Proved lately.
  if (status != "pending")
    return complain(fmt::format("{}: the authority calls it {}", what, status));

  std::vector<std::string> types;
  const auto challenges = authorization->find("challenges");
  if (challenges != authorization->end() && challenges->is_array()) {
    for (const auto& offered : *challenges) {
      if (text_member(offered, "type") == challenge.type())
        return answer_challenge(url, offered, identifier, challenge);
      types.push_back(text_member(offered, "type"));
    }
  }
  return std::unexpected(Problem{.text = fmt::format("{}: the authority offers {} and not {}", what,
                                                     fmt::join(types, ", "), challenge.type()),
                                 .is_challenge = true});
}

Outcome<json> Authority::finalize(const std::string& order_url, const Identifier& identifier,
                                  EVP_PKEY* key) {
  const std::string what = fmt::format("ordering a certificate for {}", identifier.value);
  auto order = poll(order_url, kInProgress, what);
  if (!order) return order;
  if (text_member(*order, "status") == "ready") {
    const json payload{{"csr", base64url(make_signing_request(identifier, key))}};
    const auto begun = post(text_member(*order, "finalize"), to_text(payload), what);
    if (!begun) return std::unexpected(begun.error());
    order = poll(order_url, kProcessing, what);
    if (!order) return order;
  }
  if (text_member(*order, "status") == "valid") return order;
  const auto error = order->find("error");
  return complain(fmt::format(
      "{}: the authority calls the order {}: {}", what, text_member(*order, "status"),
      error != order->end() ? text_member(*error, "detail") : std::string("it does not say why")));
}

Outcome<IssuedCertificate> Authority::obtain(const Identifier& identifier, std::string_view profile,
                                             Challenge& challenge) {
  waited_ = {};
  if (auto opened = open_account(); !opened) return std::unexpected(opened.error());

  const std::string what = fmt::format("ordering a certificate for {}", identifier.value);
  json payload{{"identifiers", json::array({{{"type", identifier.is_ip ? "ip" : "dns"},
                                             {"value", identifier.value}}})}};
  if (!profile.empty()) payload["profile"] = std::string(profile);
  const auto placed = post(directory_.new_order, to_text(payload), what);
  if (!placed) {
    // The account may have been closed, or belong to a test server that forgot it.
    if (placed.error().type == "accountDoesNotExist") account_url_.clear();
    return std::unexpected(placed.error());
  }
  const std::string order_url(placed->header("location"));
  const auto order = parse_object(placed->body);
  if (!order || !is_https(order_url))
    return complain(what + ": the authority's answer is no order");
  const auto authorizations = texts_member(*order, "authorizations");
  if (authorizations.size() > kAuthorizationsMax)
    return complain(
        fmt::format("{}: the authority wants {} proofs for one name", what, authorizations.size()));
  for (const std::string& url : authorizations)
    if (auto authorized = authorize(url, identifier, challenge); !authorized)
      return std::unexpected(authorized.error());

  IssuedCertificate issued{.key = new_certificate_key(), .chain_pem = ""};
  const auto finished = finalize(order_url, identifier, issued.key.get());
  if (!finished) return std::unexpected(finished.error());
  auto chain = post(text_member(*finished, "certificate"), "", "fetching the certificate");
  if (!chain) return std::unexpected(chain.error());
  issued.chain_pem = std::move(chain->body);
  return issued;
}

}  // namespace detour::acme
