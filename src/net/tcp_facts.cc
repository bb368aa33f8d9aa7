#include "net/tcp_facts.h"

// The kernel's own header: that of glibc 2.36 ends before the counts of bytes.
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstddef>

namespace detour::net {

std::optional<TcpFacts> tcp_facts(int fd) {
  tcp_info info{};
  socklen_t size = sizeof info;
  // Kernels since 4.19 tell all of it; what an older one leaves out stays zero.
  if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0 ||
      size < offsetof(tcp_info, tcpi_total_retrans) + sizeof info.tcpi_total_retrans)
    return std::nullopt;
  return TcpFacts{.round_trip_time = std::chrono::microseconds(info.tcpi_rtt),
                  .variation = std::chrono::microseconds(info.tcpi_rttvar),
                  .congestion_window = info.tcpi_snd_cwnd,
                  .retransmissions = info.tcpi_total_retrans,
                  .sent_bytes = info.tcpi_bytes_sent,
                  .received_bytes = info.tcpi_bytes_received};
}

}  // namespace detour::net
