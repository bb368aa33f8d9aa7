#include "doctor/dns.h"

#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <span>

#include "base/bytes.h"
#include "client/dial.h"
#include "crypto/keys.h"
#include "net/fd.h"

namespace detour::doctor {
namespace {

constexpr std::size_t kLabelMax = 63;
constexpr std::size_t kNameMax = 253;
constexpr int kTries = 2;

std::string ip_text(int family, const void* bytes) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  inet_ntop(family, bytes, text.data(), text.size());
  return text.data();
}

/// A query for one type: header, name as labels, type, class IN. Empty when the name is none.
std::vector<std::uint8_t> make_query(std::string_view name, std::uint16_t id, std::uint8_t type) {
  if (name.empty() || name.size() > kNameMax) return {};
  std::vector<std::uint8_t> query = {static_cast<std::uint8_t>(id >> 8),
                                     static_cast<std::uint8_t>(id & 0xff),
                                     0x01,
                                     0,
                                     0,
                                     1,
                                     0,
                                     0,
                                     0,
                                     0,
                                     0,
                                     0};
  while (!name.empty()) {
    const auto label = name.substr(0, name.find('.'));
    if (label.empty() || label.size() > kLabelMax) return {};
    query.push_back(static_cast<std::uint8_t>(label.size()));
    query.insert(query.end(), label.begin(), label.end());
    name.remove_prefix(std::min(name.size(), label.size() + 1));
  }
  query.insert(query.end(), {0, 0, type, 0, ns_c_in});
  return query;
}

/// Reads an answer to `id`: adds the addresses. Nullopt when it is not one.
std::optional<DnsAnswer::End> read_answer(std::span<const std::uint8_t> bytes, std::uint16_t id,
                                          std::vector<std::string>* addresses) {
  ns_msg message{};
  if (ns_initparse(bytes.data(), static_cast<int>(bytes.size()), &message) != 0)
    return std::nullopt;
  if (ns_msg_id(message) != id || ns_msg_getflag(message, ns_f_qr) == 0) return std::nullopt;
  const int code = ns_msg_getflag(message, ns_f_rcode);
  if (code == ns_r_nxdomain) return DnsAnswer::End::kNoName;
  if (code != ns_r_noerror) return DnsAnswer::End::kNoAnswer;
  for (int i = 0; i < ns_msg_count(message, ns_s_an); ++i) {
    ns_rr record{};
    if (ns_parserr(&message, ns_s_an, i, &record) != 0) break;
    if (ns_rr_type(record) == ns_t_a && ns_rr_rdlen(record) == 4)
      addresses->push_back(ip_text(AF_INET, ns_rr_rdata(record)));
    if (ns_rr_type(record) == ns_t_aaaa && ns_rr_rdlen(record) == 16)
      addresses->push_back(ip_text(AF_INET6, ns_rr_rdata(record)));
  }
  return DnsAnswer::End::kAnswered;
}

DnsAnswer::End ask_once(int fd, std::string_view name, std::uint8_t type, TimePoint deadline,
                        std::vector<std::string>* addresses) {
  std::array<std::uint8_t, 2> random{};
  crypto::random_bytes(random);
  const std::uint16_t id = read_be16(random);
  const auto query = make_query(name, id, type);
  if (query.empty() || send(fd, query.data(), query.size(), MSG_NOSIGNAL) < 0)
    return DnsAnswer::End::kNoAnswer;
  std::array<std::uint8_t, 4096> buffer{};
  while (client::wait_for(fd, POLLIN, deadline)) {
    const ssize_t size = recv(fd, buffer.data(), buffer.size(), 0);
    if (size < 0) break;
    const auto end =
        read_answer(std::span(buffer).first(static_cast<std::size_t>(size)), id, addresses);
    if (end) return *end;
  }
  return DnsAnswer::End::kNoAnswer;
}

void sort_unique(std::vector<std::string>* addresses) {
  std::ranges::sort(*addresses);
  const auto rest = std::ranges::unique(*addresses);
  addresses->erase(rest.begin(), rest.end());
}

}  // namespace

DnsAnswer ask_system(const std::string& name) {
  DnsAnswer answer{.resolver = "the system's resolver", .addresses = {}};
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  const int error = getaddrinfo(name.c_str(), nullptr, &hints, &list);
  if (error != 0) {
    answer.end = error == EAI_NONAME || error == EAI_NODATA ? DnsAnswer::End::kNoName
                                                            : DnsAnswer::End::kNoAnswer;
    answer.reason = error == EAI_SYSTEM ? std::strerror(errno) : gai_strerror(error);
    return answer;
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(list, freeaddrinfo);
  for (const addrinfo* at = list; at != nullptr; at = at->ai_next) {
    sockaddr_storage storage{};
    std::memcpy(&storage, at->ai_addr, std::min<std::size_t>(sizeof storage, at->ai_addrlen));
    answer.addresses.push_back(net::SocketAddress::from(storage).ip_text());
  }
  answer.end = DnsAnswer::End::kAnswered;
  sort_unique(&answer.addresses);
  return answer;
}

DnsAnswer ask_resolver(const net::SocketAddress& resolver, const std::string& name,
                       Duration timeout) {
  DnsAnswer answer{.resolver = resolver.text(), .addresses = {}};
  const net::UniqueFd fd(socket(resolver.family(), SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd || connect(fd.get(), resolver.get(), resolver.size()) != 0) {
    answer.reason = std::strerror(errno);
    return answer;
  }
  answer.reason = "no answer came";
  const TimePoint start = Clock::now();
  for (int attempt = 1; attempt <= kTries; ++attempt) {
    answer.addresses.clear();
    const TimePoint deadline = start + timeout * attempt / kTries;
    const auto v4 = ask_once(fd.get(), name, ns_t_a, deadline, &answer.addresses);
    if (v4 == DnsAnswer::End::kNoAnswer) continue;
    // A server that answers for A and stays silent for AAAA is common enough.
    (void)ask_once(fd.get(), name, ns_t_aaaa, deadline, &answer.addresses);
    answer.end = v4;
    sort_unique(&answer.addresses);
    return answer;
  }
  return answer;
}

AddressKind kind_of(std::string_view ip) {
  const auto address = net::SocketAddress::parse(ip, 0);
  if (!address) return AddressKind::kUnusable;
  if (const auto v4 = address->ipv4_bytes()) {
    const auto& b = *v4;
    if (b[0] == 127) return AddressKind::kLoopback;
    if (b[0] == 198 && (b[1] == 18 || b[1] == 19)) return AddressKind::kFake;
    if (b[0] == 0 || b[0] >= 224) return AddressKind::kUnusable;
    const bool is_private = b[0] == 10 || (b[0] == 172 && b[1] >= 16 && b[1] < 32) ||
                            (b[0] == 192 && b[1] == 168) || (b[0] == 169 && b[1] == 254) ||
                            (b[0] == 100 && b[1] >= 64 && b[1] < 128);
    return is_private ? AddressKind::kPrivate : AddressKind::kPublic;
  }
  const auto b = address->mapped_bytes();
  const bool leading_zeros =
      std::all_of(b.begin(), b.end() - 1, [](auto byte) { return byte == 0; });
  if (leading_zeros) return b[15] == 1 ? AddressKind::kLoopback : AddressKind::kUnusable;
  if (b[0] == 0xff) return AddressKind::kUnusable;
  if ((b[0] & 0xfe) == 0xfc || (b[0] == 0xfe && (b[1] & 0xc0) == 0x80))
    return AddressKind::kPrivate;
  return AddressKind::kPublic;
}

}  // namespace detour::doctor
