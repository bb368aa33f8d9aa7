#include "server/bootstrap_dns.h"

#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <fmt/format.h>
#include <netdb.h>
#include <resolv.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <condition_variable>
#include <cstring>
#include <random>
#include <system_error>
#include <thread>
#include <utility>

#include "net/address.h"

namespace detour::server {

namespace {

/// Addresses of one name that are handed on at most.
constexpr std::size_t kAddressesMax = 64;
/// A DNS name has at most 253 characters; longer queries are answered but not remembered.
constexpr std::size_t kNameMax = 253;
constexpr std::size_t kReplyMax = 64 * 1024;

std::optional<std::vector<std::string>> system_addresses(const std::string& name,
                                                         std::string& reason) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  const int error = ::getaddrinfo(name.c_str(), nullptr, &hints, &list);
  if (error != 0) {
    reason = error == EAI_SYSTEM ? std::strerror(errno) : ::gai_strerror(error);
    return std::nullopt;
  }
  std::vector<std::string> ips;
  for (const addrinfo* at = list; at != nullptr && ips.size() < kAddressesMax; at = at->ai_next) {
    sockaddr_storage storage{};
    std::memcpy(&storage, at->ai_addr, std::min<std::size_t>(sizeof storage, at->ai_addrlen));
    std::string ip = net::SocketAddress::from(storage).ip_text();
    if (std::ranges::find(ips, ip) == ips.end()) ips.push_back(std::move(ip));
  }
  ::freeaddrinfo(list);
  return ips;
}

/// The TXT records in a reply of the resolver: their character strings joined.
std::vector<std::string> read_texts(const unsigned char* reply, int size) {
  std::vector<std::string> texts;
  ns_msg message{};
  if (::ns_initparse(reply, size, &message) != 0) return texts;
  for (int i = 0; i < ns_msg_count(message, ns_s_an); ++i) {
    ns_rr record{};
    if (::ns_parserr(&message, ns_s_an, i, &record) != 0) break;
    if (ns_rr_type(record) != ns_t_txt) continue;
    const unsigned char* at = ns_rr_rdata(record);
    const unsigned char* const end = at + ns_rr_rdlen(record);
    std::string text;
    while (at < end) {
      const std::size_t part = *at++;
      if (part > static_cast<std::size_t>(end - at)) break;
      text.append(reinterpret_cast<const char*>(at), part);
      at += part;
    }
    texts.push_back(std::move(text));
  }
  return texts;
}

std::optional<std::vector<std::string>> system_texts(const std::string& name, std::string& reason) {
  struct __res_state resolver{};
  if (::res_ninit(&resolver) != 0) {
    reason = "no resolver is set up";
    return std::nullopt;
  }
  std::vector<unsigned char> reply(kReplyMax);
  const int size = ::res_nquery(&resolver, name.c_str(), ns_c_in, ns_t_txt, reply.data(),
                                static_cast<int>(reply.size()));
  const int error = resolver.res_h_errno;
  ::res_nclose(&resolver);
  if (size < 0) {
    reason = ::hstrerror(error);
    return std::nullopt;
  }
  return read_texts(reply.data(), std::min(size, static_cast<int>(reply.size())));
}

/// 0 to 100, or nothing.
std::optional<int> parse_percent(std::string_view text) {
  int percent = 0;
  const char* const end = text.data() + text.size();
  const auto [parsed_to, error] = std::from_chars(text.data(), end, percent);
  if (error != std::errc{} || parsed_to != end || percent < 0 || percent > 100) return std::nullopt;
  return percent;
}

}  // namespace

BootstrapDns::Resolver BootstrapDns::system_resolver() {
  return {.addresses = &system_addresses, .texts = &system_texts};
}

admin::BootstrapNames resolve_bootstrap_list(const std::vector<std::string>& entries,
                                             const BootstrapDns::Resolver& resolver,
                                             Duration budget, std::vector<std::string>& failures) {
  const TimePoint deadline = Clock::now() + budget;
  admin::BootstrapNames names;
  for (const std::string& entry : entries) {
    const std::size_t slash = std::min(entry.find('/'), entry.size());
    const std::string name = entry.substr(0, slash);
    if (Clock::now() >= deadline) {
      failures.push_back(fmt::format("{}: no time was left for it", name));
      continue;
    }
    std::string reason;
    auto ips = resolver.addresses(name, reason);
    if (!ips) {
      failures.push_back(fmt::format("{}: {}", name, reason));
      continue;
    }
    admin::BootstrapName found{.ips = std::move(*ips), .share = 1.0};
    if (slash < entry.size()) {
      // Nobody is told of a name before its record says so.
      found.share = 0;
      const std::string record = entry.substr(slash + 1);
      const auto texts = resolver.texts(record, reason);
      if (!texts) failures.push_back(fmt::format("TXT {}: {}", record, reason));
      for (const std::string& text : texts.value_or(std::vector<std::string>())) {
        if (const auto percent = parse_percent(text)) found.share = *percent / 100.0;
      }
    }
    names[name] = std::move(found);
  }
  return names;
}

struct BootstrapDns::State {
  std::mutex mutex;
  std::condition_variable wake;
  bool stopping = false;
  Log* log = nullptr;  ///< Under the mutex, and only while not stopping.
  std::shared_ptr<const admin::BootstrapCache> cache = std::make_shared<admin::BootstrapCache>();

  /// False when it is time to end.
  bool publish(admin::BootstrapCache changed, const std::vector<std::string>& failures) {
    auto next = std::make_shared<const admin::BootstrapCache>(std::move(changed));
    const std::lock_guard lock(mutex);
    if (stopping) return false;
    cache = std::move(next);
    for (const std::string& failure : failures)
      log->warn(fmt::format("/bootstrap-dns: cannot look up {}", failure));
    return true;
  }
};

BootstrapDns::BootstrapDns(std::vector<std::string> published, std::vector<std::string> unpublished,
                           Log& log, Resolver resolver)
    : state_(std::make_shared<State>()) {
  if (published.empty() && unpublished.empty()) return;
  state_->log = &log;
  const auto run = [state = state_, published = std::move(published),
                    unpublished = std::move(unpublished), resolver] {
    std::minstd_rand shuffle(std::random_device{}());
    admin::BootstrapCache cache;
    for (;;) {
      std::vector<std::string> failures;
      if (!published.empty()) {
        cache.published = resolve_bootstrap_list(published, resolver, kRefreshBudget, failures);
        // So that clients do not all go for the same address or family.
        for (auto& [name, found] : cache.published) std::ranges::shuffle(found.ips, shuffle);
        cache.published_json = admin::format_bootstrap_json(cache.published);
        if (!state->publish(cache, failures)) return;
        failures.clear();
      }
      if (!unpublished.empty()) {
        cache.unpublished = resolve_bootstrap_list(unpublished, resolver, kRefreshBudget, failures);
        if (!state->publish(cache, failures)) return;
      }
      std::unique_lock lock(state->mutex);
      if (state->wake.wait_for(lock, kRefreshInterval, [&] { return state->stopping; })) return;
    }
  };
  try {
    std::thread(run).detach();
  } catch (const std::system_error& error) {
    log.error(fmt::format("/bootstrap-dns stays empty: cannot start a thread: {}", error.what()));
  }
}

void BootstrapDns::stop() {
  const std::lock_guard lock(state_->mutex);
  state_->stopping = true;
  state_->wake.notify_all();
}

std::string BootstrapDns::answer(std::string_view query, std::string_view peer_ip) {
  const auto count = [](std::atomic<std::uint64_t>& counter, bool happened) {
    if (happened) counter.fetch_add(1, std::memory_order_relaxed);
  };
  count(requests_, true);
  double coin = 0;
  if (!query.empty()) {
    thread_local std::minstd_rand random(std::random_device{}());
    coin = std::uniform_real_distribution<double>()(random);
    if (query.size() <= kNameMax) {
      const std::lock_guard lock(queried_mutex_);
      queried_.emplace(query);
      if (queried_.size() > kQueriedNamesMax) queried_.clear();
    }
  }
  std::shared_ptr<const admin::BootstrapCache> cache;
  {
    const std::lock_guard lock(state_->mutex);
    cache = state_->cache;
  }
  auto answer = admin::answer_bootstrap(*cache, query, peer_ip, coin);
  count(published_hits_, answer.published_hit);
  count(published_misses_, answer.published_miss);
  count(unpublished_hits_, answer.unpublished_hit);
  count(unpublished_misses_, answer.unpublished_miss);
  count(unpublished_percent_misses_, answer.unpublished_percent_miss);
  return std::move(answer.body);
}

void BootstrapDns::fill(metrics::Snapshot& snapshot) const {
  snapshot.bootstrap_dns_requests = requests_.load(std::memory_order_relaxed);
  snapshot.bootstrap_dns_published_hits = published_hits_.load(std::memory_order_relaxed);
  snapshot.bootstrap_dns_published_misses = published_misses_.load(std::memory_order_relaxed);
  snapshot.bootstrap_dns_unpublished_hits = unpublished_hits_.load(std::memory_order_relaxed);
  snapshot.bootstrap_dns_unpublished_misses = unpublished_misses_.load(std::memory_order_relaxed);
  snapshot.bootstrap_dns_unpublished_percent_misses =
      unpublished_percent_misses_.load(std::memory_order_relaxed);
  const std::lock_guard lock(queried_mutex_);
  snapshot.bootstrap_dns_queried_domains = queried_.size();
}

}  // namespace detour::server
