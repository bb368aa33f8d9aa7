#include "server/link_transport.h"

namespace detour::server {

using Status = client::TlsStream::Status;

void LinkTransport::drain(ByteBuffer& sink) {
  const auto output = stream_.output();
  sink.append(output);
  stream_.output_sent(output.size());
}

net::Transport::Handshake LinkTransport::handshake(ByteBuffer& sink) {
  const Status status = stream_.handshake();
  drain(sink);
  switch (status) {
    case Status::kDone:
      return Handshake::kDone;
    case Status::kNeedsInput:
      return Handshake::kNeedsInput;
    case Status::kClosed:
    case Status::kFailed:
      break;
  }
  return Handshake::kFailed;
}

net::Transport::OpenResult LinkTransport::open(std::span<std::uint8_t> out, ByteBuffer& sink) {
  OpenResult result{.size = 0, .status = Opened::kOutputFull};
  while (result.size < out.size()) {
    const auto read = stream_.read(out.subspan(result.size));
    result.size += read.size;
    if (read.status == Status::kDone) continue;
    result.status = read.status == Status::kNeedsInput ? Opened::kNeedsInput
                    : read.status == Status::kClosed   ? Opened::kClosed
                                                       : Opened::kFailed;
    break;
  }
  drain(sink);
  return result;
}

bool LinkTransport::seal(std::span<const std::uint8_t> plaintext, ByteBuffer& sink) {
  const bool sealed = stream_.write(plaintext);
  drain(sink);
  return sealed;
}

void LinkTransport::seal_close(ByteBuffer& sink) {
  stream_.close();
  drain(sink);
}

net::Transport::Version LinkTransport::version() const {
  return stream_.is_tls13() ? Version::kTls13 : Version::kTls12;
}

}  // namespace detour::server
