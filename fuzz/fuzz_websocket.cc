// The frames of one WebSocket, as a client sends them: whole and split, the result is the same, and
// bounded. Input: 2 bytes where to split, then the frames.

#include <algorithm>
#include <span>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/check.h"
#include "http/websocket.h"
#include "input.h"

namespace {

using namespace detour;
using Bytes = std::span<const std::uint8_t>;

struct Outcome {
  std::string stream;
  std::string answers;
  bool ended = false;
  bool in_order = false;

  friend bool operator==(const Outcome&, const Outcome&) = default;
};

Outcome decode(Bytes input, std::size_t split_at) {
  http::WebSocket socket;
  Outcome outcome;
  const std::size_t split = std::min(split_at, input.size());
  for (const Bytes part : {input.first(split), input.subspan(split)}) {
    std::vector<std::uint8_t> bytes(part.begin(), part.end());
    const std::size_t size = socket.decode(bytes);
    DETOUR_CHECK(size <= bytes.size());
    outcome.stream += as_text(std::span(bytes).first(size));
  }
  outcome.answers = as_text(socket.answers().bytes());
  outcome.ended = socket.ended();
  outcome.in_order = socket.ended_in_order();
  // A pong is as long as its ping without the mask, a close frame has at most 127 bytes.
  DETOUR_CHECK(outcome.answers.size() <= input.size() + 127);
  DETOUR_CHECK(outcome.stream.size() <= input.size());

  ByteBuffer close;
  socket.append_close(http::WebSocketClose::kNormal, close);
  DETOUR_CHECK(close.empty() == outcome.ended);
  return outcome;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Bytes input(data, size);
  const std::size_t split = static_cast<std::size_t>(fuzz::take_byte(input)) << 8;
  const std::size_t split_at = split | fuzz::take_byte(input);
  const Outcome whole = decode(input, input.size());
  const Outcome parts = decode(input, split_at);
  DETOUR_CHECK(whole.stream == parts.stream);
  // Half a close frame whose reason is no UTF-8 may be found out or not, and a fault makes pongs
  // pointless that were not sent before it was found.
  if (!whole.ended && !parts.ended) DETOUR_CHECK(whole == parts);
  return 0;
}
