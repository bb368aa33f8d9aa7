// A datagram on the STUN port, and one that a client of ours gets as an answer.

#include <span>

#include "base/check.h"
#include "stun/stun.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace detour::stun;
  const std::span<const std::uint8_t> datagram(data, size);

  if (const auto id = parse_request(datagram)) {
    const auto again = parse_request(encode_request(*id));
    DETOUR_CHECK(again && *again == *id);
  }
  if (const auto mapped = parse_response(datagram)) {
    const auto again = parse_response(encode_response(mapped->id, mapped->endpoint).span());
    DETOUR_CHECK(again && again->id == mapped->id && again->endpoint == mapped->endpoint);
  }
  return 0;
}
