#include "acme/authority.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <map>
#include <string>
#include <vector>

#include "acme/encoding.h"
#include "support/certificates.h"
#include "support/says.h"

namespace detour::acme {
namespace {

using nlohmann::json;
using test::says;
using namespace std::chrono_literals;

/// An authority in memory: looks at nonces and at who signs, and goes through the states of one
/// order. Signatures are left to the tests with a real one.
class FakeAuthority final : public Https {
 public:
  int bad_nonces = 0;  ///< So many requests are refused for their nonce.
  int rounds = 2;      ///< Looks at an authorization or order until it is decided.
  std::string refuse_path = {};
  std::string refusal = {};
  long refusal_status = 403;
  bool challenge_fails = false;
  std::string retry_after = {};
  std::string token = "token_1";
  std::string cert_url = "https://ca/cert";
  std::vector<std::string> offered = {"http-01", "dns-01"};
  std::string last_nonce_name = "replay-nonce";
  int authorizations = 1;

  std::vector<std::string> asked = {};        ///< Paths of signed requests that were looked at.
  std::map<std::string, json> headers = {};   ///< Protected headers, by path.
  std::map<std::string, json> payloads = {};  ///< By path.

  std::expected<HttpsReply, std::string> send(const HttpsRequest& request) override {
    const std::string path = request.url.substr(std::string("https://ca").size());
    if (path == "/directory") {
      if (path == refuse_path) return refuse();
      return reply(200, {{"newNonce", "https://ca/nonce"},
                         {"newAccount", "https://ca/account"},
                         {"newOrder", "https://ca/order"}});
    }
    if (path == "/nonce") return with_nonce(reply(200, json::object()));
    EXPECT_EQ(request.method, "POST");
    EXPECT_EQ(request.content_type, "application/jose+json");
    const json body = json::parse(request.body);
    const auto decoded = [&](const char* name) {
      const auto bytes = decode_base64(body[name].get<std::string>());
      return std::string(bytes->begin(), bytes->end());
    };
    const json header = json::parse(decoded("protected"));
    EXPECT_EQ(header["url"], request.url);
    EXPECT_EQ(header["nonce"], nonce()) << "each nonce is used once";
    if (bad_nonces > 0) {
      --bad_nonces;
      return with_nonce(error(400, "badNonce"));
    }
    asked.push_back(path);
    headers[path] = header;
    const std::string payload = decoded("payload");
    payloads[path] = payload.empty() ? json() : json::parse(payload);
    if (path == refuse_path) return with_nonce(refuse());
    return with_nonce(answer(path));
  }

 private:
  [[nodiscard]] std::string nonce() const { return "nonce" + std::to_string(nonces_); }

  HttpsReply with_nonce(HttpsReply reply) {
    ++nonces_;
    reply.headers[last_nonce_name] = nonce();
    return reply;
  }
  static HttpsReply reply(long status, const json& body) {
    return {.status = status, .headers = {}, .body = body.dump()};
  }
  static HttpsReply error(long status, const std::string& type) {
    return reply(status, {{"type", "urn:ietf:params:acme:error:" + type}, {"detail", "no"}});
  }
  [[nodiscard]] HttpsReply refuse() const { return error(refusal_status, refusal); }

  HttpsReply answer(const std::string& path) {
    HttpsReply made = reply(200, json::object());
    if (path == "/account") {
      made.headers["location"] = "https://ca/account/1";
    } else if (path == "/order") {
      started_ = finalized_ = false;
      json list = json::array();
      for (int i = 0; i < authorizations; ++i) list.push_back("https://ca/authz");
      made = reply(201, {{"status", "pending"}, {"authorizations", list}});
      made.headers["location"] = "https://ca/order/1";
    } else if (path == "/authz") {
      json challenges = json::array();
      for (const auto& type : offered)
        challenges.push_back({{"type", type}, {"url", "https://ca/chall"}, {"token", token}});
      std::string status = "pending";
      if (started_ && --left_ <= 0) status = challenge_fails ? "invalid" : "valid";
      if (status == "invalid")
        challenges[0]["error"] = {{"type", "urn:ietf:params:acme:error:connection"},
                                  {"detail", "refused"}};
      made = reply(200, {{"status", status}, {"challenges", challenges}});
      if (!retry_after.empty()) made.headers["retry-after"] = retry_after;
    } else if (path == "/chall") {
      started_ = true;
      left_ = rounds;
    } else if (path == "/order/1") {
      std::string status = "ready";
      if (finalized_) status = --left_ <= 0 ? "valid" : "processing";
      made = reply(
          200,
          {{"status", status}, {"finalize", "https://ca/finalize"}, {"certificate", cert_url}});
    } else if (path == "/finalize") {
      finalized_ = true;
      left_ = rounds;
    } else if (path == "/cert") {
      made.body = "the chain";
    } else {
      made = error(404, "malformed");
    }
    return made;
  }

  int nonces_ = 0;
  int left_ = 0;
  bool started_ = false;
  bool finalized_ = false;
};

/// Notes what is presented.
class NotingChallenge final : public Challenge {
 public:
  std::vector<std::string> notes = {};
  std::string failure = {};

  [[nodiscard]] std::string_view type() const override { return "http-01"; }
  std::expected<void, std::string> present(const Identifier& identifier, std::string_view token,
                                           std::string_view key_authorization) override {
    if (!failure.empty()) return std::unexpected(failure);
    EXPECT_TRUE(key_authorization.starts_with(std::string(token) + "."));
    notes.push_back("present " + identifier.value + " " + std::string(token));
    return {};
  }
  void remove(const Identifier& identifier, std::string_view token,
              std::string_view /*key_authorization*/) override {
    notes.push_back("remove " + identifier.value + " " + std::string(token));
  }
};

class AuthorityTest : public testing::Test {
 protected:
  Outcome<IssuedCertificate> obtain(std::string_view profile = "") {
    if (!authority_)
      authority_.emplace(ca_, AccountKey::generate(),
                         Authority::Options{.directory_url = "https://ca/directory",
                                            .email = email_,
                                            .eab_id = eab_id_,
                                            .eab_key = {1, 2, 3},
                                            .wait =
                                                [this](Duration pause) {
                                                  waits_.push_back(pause);
                                                  return !stopping_;
                                                },
                                            .now = [] { return test::kTestTime; }});
    return authority_->obtain({.value = "derp.example.com"}, profile, challenge_);
  }
  std::string refused() {
    const auto got = obtain();
    EXPECT_FALSE(got.has_value());
    return got ? "" : got.error().text;
  }

  FakeAuthority ca_;
  NotingChallenge challenge_;
  std::string email_;
  std::string eab_id_;
  bool stopping_ = false;
  std::vector<Duration> waits_;
  std::optional<Authority> authority_;
};

TEST_F(AuthorityTest, GoesFromTheDirectoryToTheCertificate) {
  email_ = "me@example.com";
  const auto issued = obtain("shortlived");
  ASSERT_TRUE(issued.has_value()) << issued.error().text;
  EXPECT_EQ(issued->chain_pem, "the chain");
  EXPECT_EQ(ca_.asked,
            (std::vector<std::string>{"/account", "/order", "/authz", "/chall", "/authz", "/authz",
                                      "/order/1", "/finalize", "/order/1", "/order/1", "/cert"}));
  EXPECT_EQ(challenge_.notes, (std::vector<std::string>{"present derp.example.com token_1",
                                                        "remove derp.example.com token_1"}));
  EXPECT_EQ(ca_.payloads["/account"],
            (json{{"termsOfServiceAgreed", true}, {"contact", {"mailto:me@example.com"}}}));
  EXPECT_EQ(ca_.payloads["/order"],
            (json{{"identifiers", {{{"type", "dns"}, {"value", "derp.example.com"}}}},
                  {"profile", "shortlived"}}));
  EXPECT_EQ(ca_.payloads["/chall"], json::object());
  EXPECT_TRUE(ca_.headers["/account"].contains("jwk"));
  EXPECT_EQ(ca_.headers["/order"]["kid"], "https://ca/account/1");
}

TEST_F(AuthorityTest, LooksTheAccountUpOnce) {
  ASSERT_TRUE(obtain().has_value());
  ASSERT_TRUE(obtain().has_value());
  EXPECT_EQ(std::ranges::count(ca_.asked, "/account"), 1);
  EXPECT_EQ(std::ranges::count(ca_.asked, "/order"), 2);
}

TEST_F(AuthorityTest, BindsTheAccountWhenItHasWhatForThat) {
  eab_id_ = "kid-1";
  ASSERT_TRUE(obtain().has_value());
  EXPECT_TRUE(ca_.payloads["/account"].contains("externalAccountBinding"));
}

TEST_F(AuthorityTest, TriesAgainAfterBadNoncesUpToABound) {
  ca_.bad_nonces = kNonceRetries;
  EXPECT_TRUE(obtain().has_value());
}

TEST_F(AuthorityTest, GivesUpWhenEveryNonceIsBad) {
  ca_.bad_nonces = kNonceRetries + 1;
  EXPECT_TRUE(says(refused(), "badNonce"));
}

TEST_F(AuthorityTest, WaitsLongerAndLongerWhileTheAuthorityWorks) {
  ca_.rounds = 7;
  ASSERT_TRUE(obtain().has_value());
  ASSERT_EQ(waits_.size(), 12U);
  EXPECT_EQ(waits_[0], 250ms);
  EXPECT_EQ(waits_[1], 500ms);
  EXPECT_EQ(waits_[5], 5s);
  EXPECT_EQ(waits_[6], 250ms) << "the order is another matter";
}

TEST_F(AuthorityTest, WaitsAsLongAsItIsToldWithinABound) {
  ca_.rounds = 2;
  ca_.retry_after = "7";
  ASSERT_TRUE(obtain().has_value());
  EXPECT_EQ(waits_.front(), 7s);
  ca_.retry_after = "86400";
  waits_.clear();
  ca_.rounds = 3;
  ASSERT_TRUE(obtain().has_value());
  EXPECT_EQ(waits_.front(), 30s);
}

TEST_F(AuthorityTest, GivesUpAnOrderThatIsNeverDecided) {
  ca_.rounds = 1'000'000;
  EXPECT_TRUE(says(refused(), "has not decided within 180 s"));
  Duration total{};
  for (const auto& wait : waits_) total += wait;
  EXPECT_LE(total, kOrderTimeout);
  EXPECT_EQ(challenge_.notes.size(), 2U) << "what was presented is removed";
}

TEST_F(AuthorityTest, StopsWaitingWhenTheRelayStops) {
  ca_.rounds = 1'000'000;
  stopping_ = true;
  EXPECT_TRUE(says(refused(), "stopping"));
  EXPECT_EQ(waits_.size(), 1U);
  EXPECT_EQ(challenge_.notes.size(), 2U);
}

TEST_F(AuthorityTest, TellsWhyAChallengeFailedAndThatAnotherKindMayWork) {
  ca_.challenge_fails = true;
  const auto got = obtain();
  ASSERT_FALSE(got.has_value());
  EXPECT_TRUE(got.error().is_challenge);
  EXPECT_EQ(got.error().type, "connection");
  EXPECT_TRUE(says(got.error().text, "http-01 for derp.example.com failed: refused"));
  EXPECT_EQ(challenge_.notes.size(), 2U);
}

TEST_F(AuthorityTest, TellsWhichKindsAreOfferedInstead) {
  ca_.offered = {"dns-01", "dns-account-01"};
  const auto got = obtain();
  ASSERT_FALSE(got.has_value());
  EXPECT_TRUE(got.error().is_challenge);
  EXPECT_TRUE(says(got.error().text, "offers dns-01, dns-account-01 and not http-01"));
}

TEST_F(AuthorityTest, StartsNoChallengeThatCouldNotBePresented) {
  challenge_.failure = "the hook broke";
  EXPECT_TRUE(says(refused(), "the hook broke"));
  EXPECT_EQ(std::ranges::count(ca_.asked, "/chall"), 0);
}

TEST_F(AuthorityTest, TellsWhatIsRefusedAndBringsRetryAfterAlong) {
  struct Case {
    std::string path;
    std::string said;
  };
  for (const auto& [path, said] :
       {Case{"/directory", "reading the authority's directory"},
        Case{"/account", "opening an account"},
        Case{"/order", "ordering a certificate for derp.example.com"},
        Case{"/finalize", "ordering a certificate"}, Case{"/cert", "fetching the certificate"}}) {
    FakeAuthority fresh;
    fresh.refuse_path = path;
    fresh.refusal = "rateLimited";
    Authority authority(fresh, AccountKey::generate(),
                        {.directory_url = "https://ca/directory",
                         .email = "",
                         .eab_id = "",
                         .eab_key = {},
                         .wait = [](Duration) { return true; },
                         .now = [] { return test::kTestTime; }});
    const auto got = authority.obtain({.value = "derp.example.com"}, "", challenge_);
    ASSERT_FALSE(got.has_value()) << path;
    EXPECT_TRUE(says(got.error().text, said)) << path;
    EXPECT_EQ(got.error().type, "rateLimited") << path;
  }
}

TEST_F(AuthorityTest, OpensTheAccountAnewWhenTheAuthorityForgotIt) {
  ca_.refuse_path = "/order";
  ca_.refusal = "accountDoesNotExist";
  EXPECT_FALSE(obtain().has_value());
  ca_.refuse_path = "";
  EXPECT_TRUE(obtain().has_value());
  EXPECT_EQ(std::ranges::count(ca_.asked, "/account"), 2);
}

TEST_F(AuthorityTest, SendsNothingToUrlsThatAreNotHttps) {
  ca_.cert_url = "http://ca/cert";
  EXPECT_TRUE(says(refused(), "no https:// URL"));
}

TEST_F(AuthorityTest, RefusesTokensThatWouldBreakOutOfAPath) {
  ca_.token = "../secret";
  EXPECT_TRUE(says(refused(), "token is malformed"));
  EXPECT_TRUE(challenge_.notes.empty());
}

TEST_F(AuthorityTest, TakesSoManyProofsForOneNameAndNoMore) {
  ca_.rounds = 1;
  ca_.authorizations = kAuthorizationsMax;
  EXPECT_TRUE(obtain().has_value());
  ca_.authorizations = kAuthorizationsMax + 1;
  EXPECT_TRUE(says(refused(), "5 proofs"));
}

TEST_F(AuthorityTest, FailsWithoutNonces) {
  ca_.last_nonce_name = "x-other";
  EXPECT_TRUE(says(refused(), "getting a nonce"));
}

}  // namespace
}  // namespace detour::acme
