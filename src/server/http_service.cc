#include "server/http_service.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <sstream>
#include <utility>

#include "admin/forwarded_for.h"
#include "server/certificates.h"
#include "server/process_usage.h"
#include "server/shared.h"
#include "server/worker.h"

namespace detour::server {

namespace {

constexpr std::size_t kDebugKeyMax = 4096;

std::expected<std::string, std::string> read_debug_key(const std::string& path) {
  if (path.empty()) return std::string();
  std::ifstream file(path);
  std::ostringstream content;
  content << file.rdbuf();
  std::string text = std::move(content).str();
  if (!file)
    return std::unexpected(fmt::format(
        "cannot read the debug key file {} (TS_DEBUG_KEY_PATH): {}; make it readable for "
        "this user or unset the variable",
        path, std::strerror(errno)));
  constexpr std::string_view kWhiteSpace = " \t\r\n";
  text.erase(text.find_last_not_of(kWhiteSpace) + 1);
  text.erase(0, text.find_first_not_of(kWhiteSpace));
  if (text.size() > kDebugKeyMax)
    return std::unexpected(fmt::format(
        "the debug key file {} (TS_DEBUG_KEY_PATH) holds {} bytes; a key has at most {}", path,
        text.size(), kDebugKeyMax));
  return text;
}

admin::Home home_of(config::HomePage home) {
  switch (home) {
    case config::HomePage::kDefault:
      return admin::Home::kDefault;
    case config::HomePage::kBlank:
      return admin::Home::kBlank;
    case config::HomePage::kRedirect:
      return admin::Home::kRedirect;
  }
  return admin::Home::kDefault;
}

std::vector<metrics::CertificateTotals> certificate_totals(const Certificates& certificates) {
  const auto now = std::chrono::system_clock::now();
  std::vector<metrics::CertificateTotals> all;
  for (auto& status : certificates.status()) {
    const auto left = std::chrono::duration_cast<std::chrono::seconds>(status.not_after - now);
    all.push_back({.name = std::move(status.name),
                   .expires_in_seconds = status.serving && left.count() > 0
                                             ? static_cast<std::uint64_t>(left.count())
                                             : 0,
                   .renewals = status.attempts,
                   .failures = status.failures,
                   .last_error = std::move(status.last_error)});
  }
  std::ranges::sort(all, {}, &metrics::CertificateTotals::name);
  return all;
}

std::string machine_name() {
  std::array<char, 256> name{};
  ::gethostname(name.data(), name.size() - 1);
  return name.data();
}

}  // namespace

std::expected<std::unique_ptr<HttpService>, std::string> HttpService::make(Shared& shared,
                                                                           admin::MapPage map) {
  const config::Config& config = shared.config;
  auto debug_key = read_debug_key(config.debug_key_file);
  if (!debug_key) return std::unexpected(debug_key.error());

  std::unique_ptr<HttpService> service(new HttpService(shared));
  admin::Site& site = service->site_;
  site.derp_enabled = config.derp;
  site.home = home_of(config.home);
  site.home_url = config.home_redirect;
  site.map = std::move(map);
  site.debug_access.debug_key = std::move(*debug_key);
  site.debug_access.allow_ip = config.debug_allow_ip;
  for (const std::string& cidr : config.debug_trusted_cidrs) {
    if (const auto prefix = admin::parse_ip_prefix(cidr))
      site.debug_access.trusted.push_back(*prefix);
  }
  site.hostname = config.tls ? config.hostname : "";
  site.machine = machine_name();
  site.version = config.version;
  site.has_mesh_key = [&shared] { return !shared.mesh_key().is_zero(); };
  if (orders_certificates(config)) {
    site.acme_challenge = [&shared](std::string_view token) {
      return shared.certificates->http_token(token);
    };
    // An authority asks for an address by whichever of them it knows.
    if (!config.acme_ip_certs) site.acme_host = config.hostname;
  }
  const HttpService& self = *service;
  site.render_prometheus = [&self] { return metrics::format_prometheus(self.snapshot()); };
  site.render_expvar_json = [&self] { return metrics::format_expvar_json(self.snapshot()); };
  site.uptime = [&shared] {
    return std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - shared.started_at);
  };
  site.find_inconsistencies = [&self] { return self.find_inconsistencies(); };
  site.bootstrap_dns = [&shared](std::string_view query, std::string_view peer_ip) {
    return shared.bootstrap_dns.answer(query, peer_ip);
  };
  service->memory_at_start_bytes_ = read_process_usage().resident_bytes;
  return service;
}

admin::Listener HttpService::admin_listener(ListenerKind listener) const {
  if (listener == ListenerKind::kHttp) return admin::Listener::kHttpPort;
  return shared_.tls ? admin::Listener::kMainTls : admin::Listener::kMainPlain;
}

std::optional<admin::DerpUpgrade> HttpService::derp_upgrade(const http::Request& request,
                                                            ListenerKind listener) const {
  return admin::derp_upgrade(request, site_, admin_listener(listener));
}

std::optional<admin::SlowPage> HttpService::slow_page(const http::Request& request,
                                                      const Caller& caller,
                                                      ListenerKind listener) const {
  const std::string ip = caller.address.ip_text();
  return admin::slow_page(
      request, site_,
      {.listener = admin_listener(listener), .peer_ip = ip, .forwarded = caller.forwarded});
}

http::Response HttpService::respond(const http::Request& request, const Caller& caller,
                                    ListenerKind listener) const {
  const std::string ip = caller.address.ip_text();
  return admin::route(
      request, site_,
      {.listener = admin_listener(listener), .peer_ip = ip, .forwarded = caller.forwarded});
}

HttpService::Caller HttpService::caller(const http::Request& request,
                                        const net::SocketAddress& peer) const {
  if (shared_.trusted_proxies().empty() || !shared_.is_trusted_proxy(peer)) return {peer, false};
  const auto client = admin::forwarded_client(request, shared_.trusted_proxies());
  if (!client) return {peer, false};
  const auto address = net::SocketAddress::parse(*client, 0);
  // A zone (fe80::1%eth0) means nothing here.
  if (!address) return {peer, false};
  return {*address, true};
}

metrics::Snapshot HttpService::snapshot() const {
  metrics::Snapshot snapshot;
  for (const auto& worker : shared_.workers) metrics::accumulate(snapshot, worker->counters());
  const auto counts = shared_.directory.counts();
  snapshot.clients_local = counts.keys;
  snapshot.clients_remote = counts.remote_keys;
  snapshot.watchers = counts.watchers;
  snapshot.mesh_links_configured = shared_.mesh_links.load(std::memory_order_relaxed);
  snapshot.multiforwarder_created = counts.second_mesh_links;
  snapshot.multiforwarder_deleted = counts.last_mesh_links;
  snapshot.packet_forwarder_delete_other_value = counts.strange_mesh_removals;
  snapshot.current_dup_client_keys = counts.duplicate_keys;
  snapshot.current_dup_client_conns = counts.duplicate_connections;
  snapshot.total_dup_client_conns = counts.duplicate_connections_total;
  if (const admission::Admission* const admission = shared_.admission.get())
    snapshot.admission = metrics::read_admission(admission->counters());
  const relay::ReceiveRate rate = shared_.receive_rate();
  snapshot.has_rate_config = !shared_.config.rate_config_file.empty();
  snapshot.rate_limit_bytes_per_second = rate.bytes_per_second;
  snapshot.rate_limit_burst_bytes = rate.burst_bytes;
  shared_.bootstrap_dns.fill(snapshot);
  snapshot.process = read_process_usage();
  snapshot.memory_at_start_bytes = memory_at_start_bytes_;
  snapshot.uptime_seconds = static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - shared_.started_at).count());
  snapshot.has_tls_listener = shared_.tls != nullptr;
  if (shared_.certificates) snapshot.certificates = certificate_totals(*shared_.certificates);
  snapshot.version = shared_.config.version;
  snapshot.binary = shared_.config.binary_name;
  return snapshot;
}

std::string HttpService::find_inconsistencies() const {
  std::uint64_t connections = 0;
  for (const auto& worker : shared_.workers)
    connections += worker->counters().current_connections.get();
  const auto counts = shared_.directory.counts();
  // As in the reference this is also so while a key has several connections.
  if (connections == counts.keys) return {};
  return fmt::format("{} connections are counted, and {} keys are in the directory", connections,
                     counts.keys);
}

std::int64_t HttpService::unix_seconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace detour::server
