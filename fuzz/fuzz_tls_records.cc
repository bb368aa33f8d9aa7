// What a client may send behind the TLS handshake: records that are sealed as they should be around
// anything, and bytes that are no records at all.

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/byte_buffer.h"
#include "base/bytes.h"
#include "base/check.h"
#include "net/record_transport.h"

namespace {

using namespace detour;
using Bytes = std::vector<std::uint8_t>;

constexpr std::uint8_t kData = 23;
const Bytes kClientSecret(32, 1);
const Bytes kServerSecret(32, 2);

std::unique_ptr<net::RecordTransport> make(const Bytes& read, const Bytes& write) {
  return net::RecordTransport::make(
      {.read = net::tls13::Secret(std::span<const std::uint8_t>(read)),
       .write = net::tls13::Secret(std::span<const std::uint8_t>(write)),
       .backend = net::RecordKey::best_backend()});
}

/// Seals whole inner plaintexts, type and padding included, with the client's first key.
class Sealer {
 public:
  Sealer() {
    Bytes key(16);
    DETOUR_CHECK(
        net::tls13::expand_label(net::tls13::Hash::kSha256, kClientSecret, "key", {}, key));
    DETOUR_CHECK(net::tls13::expand_label(net::tls13::Hash::kSha256, kClientSecret, "iv", {}, iv_));
    key_ = net::RecordKey::make(key, net::RecordKey::Backend::kEvp);
    DETOUR_CHECK(key_ != nullptr);
  }

  void append(std::span<const std::uint8_t> inner, Bytes& stream) {
    const std::size_t at = stream.size();
    stream.resize(at + 5 + inner.size() + net::kAeadTagSize);
    const std::span record = std::span(stream).subspan(at);
    record[0] = kData;
    record[1] = record[2] = 3;
    write_be16(record.subspan<3, 2>(),
               static_cast<std::uint16_t>(inner.size() + net::kAeadTagSize));
    auto nonce = iv_;
    nonce.back() ^= static_cast<std::uint8_t>(sequence_++);  // Far fewer than 256 records.
    DETOUR_CHECK(key_->seal(nonce, record.first(5), inner.first(inner.size() - 1), inner.back(),
                            record.data() + 5));
  }
  [[nodiscard]] bool is_spent() const { return sequence_ == 255; }

 private:
  std::unique_ptr<net::RecordKey> key_;
  net::RecordKey::Nonce iv_{};
  unsigned sequence_ = 0;
};

}  // namespace

// Input: pieces of one byte of size, then the piece. An even size is an inner plaintext to seal, an
// odd one goes out as it is. What is left over when the sizes end says how the stream is cut.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::span<const std::uint8_t> input(data, size);
  Sealer sealer;
  Bytes stream;
  Bytes sent;  // The data in it, as far as it is sealed in order.
  while (input.size() > 1 && !sealer.is_spent()) {
    const std::size_t length = std::min<std::size_t>(input[0], input.size() - 1);
    const auto piece = input.subspan(1, length);
    const bool sealed = input[0] % 2 == 0;
    input = input.subspan(1 + length);
    if (piece.empty()) continue;
    if (!sealed) {
      stream.insert(stream.end(), piece.begin(), piece.end());
      continue;
    }
    sealer.append(piece, stream);
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
