#include "net/plain_transport.h"

#include <algorithm>
#include <cstring>

namespace detour::net {

Transport::Handshake PlainTransport::handshake(ByteBuffer& /*sink*/) {
  return Handshake::kDone;
}

Transport::OpenResult PlainTransport::open(std::span<std::uint8_t> out, ByteBuffer& /*sink*/) {
  const std::size_t size = std::min(input_.size(), out.size());
  if (size != 0) std::memcpy(out.data(), input_.data(), size);
  input_ = input_.subspan(size);
  return {.size = size, .status = input_.empty() ? Opened::kNeedsInput : Opened::kOutputFull};
}

bool PlainTransport::seal(std::span<const std::uint8_t> plaintext, ByteBuffer& sink) {
  sink.append(plaintext);
  return true;
}

void PlainTransport::seal_close(ByteBuffer& /*sink*/) {}

}  // namespace detour::net
