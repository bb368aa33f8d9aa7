// What an admission controller and tailscaled answer.
// Input: 1 byte which of them and which status, then the body.

#include <array>
#include <span>

#include "admission/reply.h"
#include "base/bytes.h"
#include "base/check.h"
#include "input.h"

namespace {

using namespace detour;
using admission::Answer;

constexpr std::array kStatuses = {200L, 204L, 301L, 400L, 403L, 404L, 500L, 0L};

void check(const admission::Reply& reply, long status) {
  DETOUR_CHECK(reply.answer != Answer::kUnreachable);
  // Whoever is kept out is told why in the log; and nothing but 200 lets anybody in.
  DETOUR_CHECK((reply.answer == Answer::kAllowed) == reply.reason.empty());
  if (reply.answer == Answer::kAllowed) DETOUR_CHECK(status == 200);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::span<const std::uint8_t> input(data, size);
  const std::uint8_t choice = fuzz::take_byte(input);
  const long status = kStatuses[choice % kStatuses.size()];
  const auto body = as_text(input);
  if ((choice & 0x80) == 0) {
    check(admission::controller_reply("https://admit.example/", status, body), status);
  } else {
    check(admission::whois_reply("/run/tailscaled.sock", status, body), status);
  }
  return 0;
}
