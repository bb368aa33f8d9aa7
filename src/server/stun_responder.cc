#include "server/stun_responder.h"

#include <fmt/format.h>
#include <netinet/in.h>

#include <cerrno>
#include <cstring>

#include "net/address.h"
#include "server/shared.h"

namespace detour::server {

namespace {

constexpr std::size_t kBatchSize = 32;
/// A request of a Tailscale client has 40 bytes, but one that carries more attributes is answered
/// too, up to the largest datagram there is. Memory that no datagram reaches is never touched.
constexpr std::size_t kDatagramMax = 64 * 1024;
constexpr std::size_t kControlSize =
    CMSG_SPACE(sizeof(in6_pktinfo)) + CMSG_SPACE(sizeof(in_pktinfo));

/// Whether the kernel told where the datagram was sent to. The same control data, sent back, makes
/// it the answer's source; only the interface is left to routing.
bool keep_local_address(msghdr& message) {
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr;
       part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level == IPPROTO_IPV6 && part->cmsg_type == IPV6_PKTINFO) {
      auto* const info = reinterpret_cast<in6_pktinfo*>(CMSG_DATA(part));
      if (!IN6_IS_ADDR_LINKLOCAL(&info->ipi6_addr)) info->ipi6_ifindex = 0;
      return true;
    }
    if (part->cmsg_level == IPPROTO_IP && part->cmsg_type == IP_PKTINFO) {
      auto* const info = reinterpret_cast<in_pktinfo*>(CMSG_DATA(part));
      info->ipi_ifindex = 0;
      info->ipi_spec_dst = info->ipi_addr;
      return true;
    }
  }
  return false;
}

stun::Endpoint endpoint_of(const net::SocketAddress& address) {
  stun::Endpoint endpoint{.address = address.mapped_bytes(), .port = address.port()};
  if (const auto v4 = address.ipv4_bytes()) endpoint.address = *v4;
  return endpoint;
}

}  // namespace

struct StunResponder::Batch {
  std::array<std::array<std::uint8_t, kDatagramMax>, kBatchSize> datagrams;
  std::array<sockaddr_storage, kBatchSize> sources;
  alignas(cmsghdr) std::array<std::array<std::uint8_t, kControlSize>, kBatchSize> controls;
  std::array<stun::Response, kBatchSize> responses;
  std::array<iovec, kBatchSize> in_vectors;
  std::array<iovec, kBatchSize> out_vectors;
  std::array<mmsghdr, kBatchSize> in;
  std::array<mmsghdr, kBatchSize> out;
};

StunResponder::StunResponder(int fd, metrics::WorkerCounters& counters, Shared& shared)
    : fd_(fd),
      counters_(counters),
      shared_(shared),
      batch_(std::make_unique_for_overwrite<Batch>()) {
  static_assert(kControlSize % alignof(cmsghdr) == 0);
}

StunResponder::~StunResponder() = default;

void StunResponder::on_event(std::uint32_t /*events*/) {
  Batch& batch = *batch_;
  for (std::size_t i = 0; i < kBatchSize; ++i) {
    batch.in_vectors[i] = {.iov_base = batch.datagrams[i].data(), .iov_len = kDatagramMax};
    batch.in[i] = {};
    batch.in[i].msg_hdr = {.msg_name = &batch.sources[i],
                           .msg_namelen = sizeof(sockaddr_storage),
                           .msg_iov = &batch.in_vectors[i],
                           .msg_iovlen = 1,
                           .msg_control = batch.controls[i].data(),
                           .msg_controllen = kControlSize,
                           .msg_flags = 0};
  }
  const int received = ::recvmmsg(fd_, batch.in.data(), kBatchSize, MSG_DONTWAIT, nullptr);
  if (received <= 0) {
    if (received < 0 && errno != EAGAIN && errno != EINTR) counters_.stun_read_error.add();
    return;
  }

  unsigned answers = 0;
  for (std::size_t i = 0; i < static_cast<std::size_t>(received); ++i) {
    msghdr& message = batch.in[i].msg_hdr;
    const auto source = net::SocketAddress::from(batch.sources[i]);
    const bool whole = (message.msg_flags & MSG_TRUNC) == 0;
    const auto id = stun::parse_request({batch.datagrams[i].data(), batch.in[i].msg_len});
    if (!whole || !id) {
      counters_.stun_not_stun.add();
      continue;
    }
    const stun::Endpoint endpoint = endpoint_of(source);
    (endpoint.address.index() == 0 ? counters_.stun_ipv4 : counters_.stun_ipv6).add();
    if (!keep_local_address(message)) {
      counters_.stun_no_local_addr.add();
      message.msg_control = nullptr;
      message.msg_controllen = 0;
    }
    stun::Response& response = batch.responses[answers];
    response = stun::encode_response(*id, endpoint);
    batch.out_vectors[answers] = {.iov_base = response.bytes.data(), .iov_len = response.size};
    batch.out[answers] = {};
    batch.out[answers].msg_hdr = message;
    batch.out[answers].msg_hdr.msg_iov = &batch.out_vectors[answers];
    ++answers;
  }

  unsigned done = 0;
  while (done < answers) {
    const int sent = ::sendmmsg(fd_, batch.out.data() + done, answers - done, MSG_DONTWAIT);
    if (sent > 0) {
      counters_.stun_success.add(static_cast<std::uint64_t>(sent));
      done += static_cast<unsigned>(sent);
      continue;
    }
    if (errno == EINTR) continue;
    // The first one could not be sent; the others may still be.
    counters_.stun_write_error.add();
    shared_.log_gated(LogCause::kStunFailed, LogLevel::kWarn, Clock::now(),
                      [&] { return fmt::format("cannot answer STUN: {}", std::strerror(errno)); });
    ++done;
  }
}

}  // namespace detour::server
