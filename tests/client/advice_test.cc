#include "client/advice.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <string>
#include <string_view>

namespace detour::client {
namespace {

TEST(Advice, FitsTheCause) {
  struct Case {
    std::string_view name;
    Failure failure;
    std::string_view part;
  };
  const Case cases[] = {
      {"name", {.layer = Layer::kAddress, .message = {}}, "DNS"},
      {"refused", {.layer = Layer::kTcp, .message = {}, .system_error = ECONNREFUSED}, "port"},
      {"filtered", {.layer = Layer::kTcp, .message = {}, .timed_out = true}, "firewall"},
      {"plain HTTP",
       {.layer = Layer::kTls, .message = {}, .tls_problem = TlsProblem::kNotTls},
       "http://"},
      {"self-signed",
       {.layer = Layer::kTls,
        .message = {},
        .tls_problem = TlsProblem::kSelfSigned,
        .certificate_pin = "sha256-raw:ab"},
       "--pin sha256-raw:ab"},
      {"leaf without intermediate",
       {.layer = Layer::kTls, .message = {}, .tls_problem = TlsProblem::kUnknownIssuer},
       "full chain"},
      {"404", {.layer = Layer::kHttp, .message = {}, .http_status = 404}, "switched off"},
      {"426", {.layer = Layer::kHttp, .message = {}, .http_status = 426}, "Upgrade"},
      {"refused key", {.layer = Layer::kLogin, .message = {}}, "throw-away"},
  };
  for (const auto& [name, failure, part] : cases) {
    SCOPED_TRACE(name);
    EXPECT_NE(advice(failure).find(part), std::string::npos) << advice(failure);
  }
}

TEST(Failure, BeginsWithItsLayer) {
  const Failure failure{.layer = Layer::kTls, .message = "certificate has expired"};
  EXPECT_EQ(failure.text(), "TLS: certificate has expired");
}

}  // namespace
}  // namespace detour::client
