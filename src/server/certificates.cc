#include "server/certificates.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <ifaddrs.h>
#include <net/if.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <utility>

#include "admin/debug_access.h"
#include "net/address.h"
#include "net/socket.h"

namespace detour::server {
namespace {

constexpr std::uint16_t kHttpPort = 80;
constexpr std::uint16_t kHttpsPort = 443;
constexpr std::string_view kLetsEncrypt = "https://acme-v02.api.letsencrypt.org/directory";
constexpr std::string_view kGoogle = "https://dv.acme-v02.api.pki.goog/directory";

/// Addresses that no authority can reach (IANA's special-purpose registries).
constexpr std::array kNotPublic = std::to_array<std::string_view>({
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/3",
});
constexpr std::string_view kPublicIpv6 = "2000::/3";
constexpr std::string_view kDocumentationIpv6 = "2001:db8::/32";

bool is_in(const net::SocketAddress& address, std::string_view range) {
  const auto prefix = admin::parse_ip_prefix(range);
  return prefix && prefix->contains(address.mapped_bytes());
}

std::vector<std::string> addresses_of_this_machine() {
  std::vector<std::string> found;
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return found;
  for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr == nullptr || (entry->ifa_flags & IFF_UP) == 0) continue;
    const int family = entry->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6) continue;
    sockaddr_storage storage{};
    std::memcpy(&storage, entry->ifa_addr,
                family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6));
    found.push_back(net::SocketAddress::from(storage).ip_text());
  }
  ::freeifaddrs(list);
  return found;
}

std::optional<net::RecordKey::Backend> record_backend(config::TlsRecords records) {
  using enum net::RecordKey::Backend;
  switch (records) {
    case config::TlsRecords::kAuto:
      return net::RecordKey::best_backend();
    case config::TlsRecords::kIpsecMb:
      return kIpsecMb;
    case config::TlsRecords::kEvp:
      return kEvp;
    case config::TlsRecords::kOpenSsl:
      break;
  }
  return std::nullopt;
}

bool is_wildcard(std::string_view host) {
  return host.empty() || host == "0.0.0.0" || host == "::";
}

}  // namespace

acme::CertificateRequest certificate_request(const config::Config& config) {
  acme::CertificateRequest request;
  request.hostname = config.hostname;
  request.cert_dir = config.cert_dir;
  request.cert_file = config.cert_file;
  request.key_file = config.cert_key_file;
  request.allow_incomplete_chain = config.allow_incomplete_chain;
  if (config.personality == config::Personality::kDerper) {
    request.cert_dir_setting = "-certdir";
    request.hostname_setting = "-hostname";
    request.allow_incomplete_chain_setting = "-allow-incomplete-chain";
  }
  return request;
}

bool orders_certificates(const config::Config& config) {
  return config.tls && config.cert_mode != config::CertMode::kManual;
}

bool is_public_ip(std::string_view ip) {
  const auto address = net::SocketAddress::parse(ip, 0);
  if (!address || ip.empty()) return false;
  if (address->ipv4_bytes())
    return std::ranges::none_of(kNotPublic, [&](auto range) { return is_in(*address, range); });
  return is_in(*address, kPublicIpv6) && !is_in(*address, kDocumentationIpv6);
}

std::vector<acme::Identifier> identifiers_to_order(const config::Config& config,
                                                   std::span<const std::string> local_ips) {
  std::vector<acme::Identifier> wanted;
  const auto add = [&](const std::string& value, bool is_ip) {
    const acme::Identifier identifier{.value = value, .is_ip = is_ip};
    const bool is_new = std::ranges::find(wanted, identifier) == wanted.end();
    if (is_new && wanted.size() < acme::kIdentifiersMax) wanted.push_back(identifier);
  };
  const auto as_ip = [](const std::string& text) -> std::optional<std::string> {
    const auto address = text.empty() ? std::nullopt : net::SocketAddress::parse(text, 0);
    return address ? std::optional(address->ip_text()) : std::nullopt;
  };

  const auto name_as_ip = as_ip(config.hostname);
  add(name_as_ip.value_or(config.hostname), name_as_ip.has_value());
  if (!config.acme_ip_certs) return wanted;
  if (!is_wildcard(config.listen.host)) {
    if (const auto ip = as_ip(config.listen.host)) add(*ip, true);
    return wanted;
  }
  for (const std::string& ip : local_ips)
    if (is_public_ip(ip)) add(ip, true);
  return wanted;
}

std::expected<acme::AcmeOptions, std::string> Certificates::acme_options() const {
  acme::AcmeOptions options;
  options.identifiers = identifiers_to_order(config_, addresses_of_this_machine());
  options.directory_url = !config_.acme_directory.empty()               ? config_.acme_directory
                          : config_.cert_mode == config::CertMode::kGcp ? std::string(kGoogle)
                                                                        : std::string(kLetsEncrypt);
  options.ca_file = config_.acme_ca_file;
  options.email = config_.acme_email;
  options.eab_id = config_.acme_eab_kid;
  if (!config_.acme_eab_key.empty()) {
    auto key = acme::decode_base64(config_.acme_eab_key);
    if (!key)
      return std::unexpected(
          "the key for external account binding (--acme-eab-key, derper: -acme-eab-key) is neither "
          "base64url nor base64: copy it as the authority shows it");
    options.eab_key = std::move(*key);
  }
  options.dns_hook = config_.acme_dns_hook;
  options.by_http = config_.http_port.has_value();
  // The authority comes to port 443 or 80, whatever we listen on; a port that is just that one is
  // the likelier to lead here.
  options.alpn_first = config_.listen.port == kHttpsPort || config_.http_port != kHttpPort;
  options.folder = config_.cert_dir;
  options.user_agent = fmt::format("detour/{}", config_.version);
  // Also right for addresses that are routed here and that no interface has.
  options.is_local_ip = [](const std::string& ip) {
    const auto address = net::SocketAddress::parse(ip, 0);
    return address && net::bind_udp(*address).has_value();
  };
  return options;
}

std::expected<std::unique_ptr<Certificates>, std::string> Certificates::make(
    const config::Config& config, const crypto::NodePublic& relay_key,
    const acme::ServerCertificate* current, Log& log) {
  std::unique_ptr<Certificates> made(new Certificates(config, relay_key.hex(), log));
  const bool is_ip = net::SocketAddress::parse(config.hostname, 0).has_value();
  net::TlsServerOptions options;
  options.own_records = record_backend(config.tls_records);
  // derper serves a DNS name only to clients that ask for it. We do the same under its name;
  // otherwise a client that hides or misses the name is served, because the certificate protects it
  // all the same.
  if (config.personality == config::Personality::kDerper && (!is_ip || orders_certificates(config)))
    options.required_sni = config.hostname;
  auto tls = net::TlsContext::make(options);
  if (!tls) return std::unexpected(tls.error());
  made->tls_ = std::move(*tls);

  if (orders_certificates(config)) {
    auto to_order = made->acme_options();
    if (!to_order) return std::unexpected(to_order.error());
    made->to_order_ = std::move(*to_order);
    if (config.acme_ip_certs)
      made->tls_->on_unknown_address(
          [self = made.get()](std::string_view ip) { self->on_unknown_address(ip); });
    return made;
  }
  if (current == nullptr) return std::unexpected("there is no certificate to serve");
  const acme::Identifier identifier{.value = config.hostname, .is_ip = is_ip};
  const std::array kept{acme::KeptCertificate{.identifier = identifier, .certificate = *current}};
  if (auto served = made->serve(kept); !served) return std::unexpected(served.error());
  return made;
}

Certificates::~Certificates() = default;

void Certificates::start(const acme::ServerCertificate* current) {
  acme::CertificateSink sink{
      .serve = [this](std::span<const acme::KeptCertificate> kept) { return serve(kept); },
      .waiting_for = [this](std::string what) { tls_->set_waiting_for(std::move(what)); }};
  if (to_order_) {
    keeper_ = acme::keep_by_acme(*to_order_, *this, std::move(sink), log_);
  } else if (!current->cert_file.empty()) {
    keeper_ = acme::keep_files(certificate_request(config_), *current, std::move(sink), log_);
  }
}

std::expected<void, std::string> Certificates::serve(
    std::span<const acme::KeptCertificate> certificates) {
  // A fresh one each time; clients do not look at its dates.
  const auto meta = acme::make_meta_certificate(relay_key_hex_, std::chrono::system_clock::now());
  std::vector<net::TlsCertificate> shown;
  for (const auto& [identifier, certificate] : certificates) {
    net::TlsCertificate& one = shown.emplace_back();
    one.leaf = certificate.leaf.get();
    one.key = certificate.key.get();
    for (const auto& issuer : certificate.chain) one.chain.push_back(issuer.get());
    one.chain.push_back(meta.get());
    // What is read from files is for whoever comes.
    if (to_order_) (identifier.is_ip ? one.ip : one.dns_name) = identifier.value;
  }
  return tls_->set_certificates(shown);
}

void Certificates::on_unknown_address(std::string_view ip) {
  // A private authority may well reach what the internet cannot.
  if (is_public_ip(ip) || !config_.acme_directory.empty()) return keeper_->want_address(ip);
  if (!said_not_public_.exchange(true))
    log_.info(
        fmt::format("certificate: a client reached {}, which no public authority gives a "
                    "certificate for; where clients come by an address that is translated to this "
                    "one, make that address the host name",
                    ip));
}

void Certificates::request_stop() {
  if (keeper_) keeper_->request_stop();
}

void Certificates::check_now(const config::Config& changed) {
  if (keeper_) keeper_->check_now(certificate_request(changed));
}

std::vector<acme::CertificateStatus> Certificates::status() const {
  return keeper_ ? keeper_->status() : std::vector<acme::CertificateStatus>();
}

std::optional<std::string> Certificates::unready() const {
  if (std::string waiting_for = tls_->waiting_for(); !waiting_for.empty()) return waiting_for;
  const auto now = std::chrono::system_clock::now();
  for (const auto& one : status())
    if (one.expired(now)) return fmt::format("the certificate for {} has expired", one.name);
  return std::nullopt;
}

std::optional<std::string> Certificates::http_token(std::string_view token) const {
  const std::lock_guard lock(mutex_);
  const auto found = http_tokens_.find(token);
  return found == http_tokens_.end() ? std::nullopt : std::optional(found->second);
}

void Certificates::add_http_token(std::string_view token, std::string_view content) {
  const std::lock_guard lock(mutex_);
  http_tokens_.insert_or_assign(std::string(token), std::string(content));
}

void Certificates::remove_http_token(std::string_view token) {
  const std::lock_guard lock(mutex_);
  const auto found = http_tokens_.find(token);
  if (found != http_tokens_.end()) http_tokens_.erase(found);
}

std::expected<void, std::string> Certificates::add_alpn_certificate(std::string_view name,
                                                                    X509* certificate,
                                                                    EVP_PKEY* key) {
  return tls_->add_challenge(name, certificate, key);
}

void Certificates::remove_alpn_certificate(std::string_view name) {
  tls_->remove_challenge(name);
}

}  // namespace detour::server
