// What a client may send behind the TLS handshake: records that are sealed as they should be around
// anything, and bytes that are no records at all.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/byte_buffer.h"
#include "base/check.h"
#include "net/record_transport.h"
#include "support/record_forge.h"

namespace {

using namespace detour;
using Bytes = std::vector<std::uint8_t>;

constexpr std::uint8_t kData = 23;
constexpr unsigned kSealedRecordsMax = 255;
const Bytes kClientSecret(32, 1);
const Bytes kServerSecret(32, 2);

std::unique_ptr<net::RecordTransport> make(const Bytes& read, const Bytes& write) {
  return net::RecordTransport::make(
      {.read = net::tls13::Secret(std::span<const std::uint8_t>(read)),
       .write = net::tls13::Secret(std::span<const std::uint8_t>(write)),
       .backend = net::RecordKey::best_backend()});
}

}  // namespace

// Input: pieces of one byte of size, then the piece. An even size is an inner plaintext to seal, an
// odd one goes out as it is. What is left over when the sizes end says how the stream is cut.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::span<const std::uint8_t> input(data, size);
  test::RecordForge forge(kClientSecret);
  unsigned sealed_records = 0;
  Bytes stream;
  Bytes sent;  // The data in it, as far as it is sealed in order.
  while (input.size() > 1 && sealed_records < kSealedRecordsMax) {
    const std::size_t length = std::min<std::size_t>(input[0], input.size() - 1);
    const auto piece = input.subspan(1, length);
    const bool sealed = input[0] % 2 == 0;
    input = input.subspan(1 + length);
    if (piece.empty()) continue;
    if (!sealed) {
      stream.insert(stream.end(), piece.begin(), piece.end());
      continue;
    }
    const Bytes record = forge.raw(piece);
    stream.insert(stream.end(), record.begin(), record.end());
    ++sealed_records;
    const auto last =
        std::find_if(piece.rbegin(), piece.rend(), [](auto byte) { return byte != 0; });
    if (last != piece.rend() && *last == kData)
      sent.insert(sent.end(), piece.begin(), last.base() - 1);
  }

  const auto server = make(kClientSecret, kServerSecret);
  const auto client = make(kServerSecret, kClientSecret);
  Bytes out(net::Transport::kRecordRoom);
  Bytes received;
  ByteBuffer answers;
  Bytes carry;
  std::span<const std::uint8_t> rest(stream);
  std::size_t step = input.empty() ? stream.size() : 1U + input[0];
  bool ended = false;
  while (!rest.empty() && !ended) {
    const auto part = rest.first(std::min(step, rest.size()));
    rest = rest.subspan(part.size());
    carry.insert(carry.end(), part.begin(), part.end());
    server->feed(carry);
    for (;;) {
      const auto opened = server->open(out, answers);
      received.insert(received.end(), out.begin(),
                      out.begin() + static_cast<std::ptrdiff_t>(opened.size));
      if (opened.status == net::Transport::Opened::kOutputFull) {
        DETOUR_CHECK(opened.size != 0);
        continue;
      }
      ended = opened.status != net::Transport::Opened::kNeedsInput;
      DETOUR_CHECK(ended || opened.unread < 5 + 16384 + 256);
      carry.erase(carry.begin(),
                  carry.end() - static_cast<std::ptrdiff_t>(ended ? 0 : opened.unread));
      break;
    }
  }
  DETOUR_CHECK(received.size() <= sent.size() &&
               std::equal(received.begin(), received.end(), sent.begin()));

  // Whatever it answered is in order for the other side: KeyUpdates, and an alert at the end.
  client->feed(answers.bytes());
  ByteBuffer nothing;
  const auto seen = client->open(out, nothing);
  DETOUR_CHECK(seen.size == 0 && nothing.empty() && seen.unread == 0);
  return 0;
}
