#include "cli/announce.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <chrono>

#include "config/address.h"

namespace detour::cli {
namespace {

constexpr std::uint16_t kCaptivePortalPort = 80;

std::string day_of(acme::WallTime time) {
  return fmt::format("{:%Y-%m-%d}", fmt::gmtime(std::chrono::system_clock::to_time_t(time)));
}

std::string address_text(const Announcement& announcement, std::uint16_t port) {
  return config::to_text({.host = announcement.config.listen.host, .port = port});
}

std::string certificate_text(const acme::ServerCertificate& certificate) {
  return certificate.self_signed
             ? fmt::format("{}, self-signed, valid until {}\nPin:         {}",
                           certificate.cert_file, day_of(certificate.not_after), certificate.pin)
             : fmt::format("{}, valid until {}, for {}", certificate.cert_file,
                           day_of(certificate.not_after), fmt::join(certificate.names, ", "));
}

}  // namespace

config::DerpMapEntry map_entry(const Announcement& announcement) {
  const std::string& hostname = announcement.config.hostname;
  config::DerpMapEntry entry;
  entry.hostname = hostname;
  if (config::is_ipv6(hostname))
    entry.ipv6 = hostname;
  else if (config::is_ip(hostname))
    entry.ipv4 = hostname;
  if (announcement.certificate != nullptr && announcement.certificate->self_signed)
    entry.cert_name = announcement.certificate->pin;
  entry.derp_port = announcement.port;
  entry.stun_port = announcement.stun_port;
  entry.can_port80 = announcement.http_port == kCaptivePortalPort;
  return entry;
}

std::string announcement_text(const Announcement& announcement) {
  const config::Config& config = announcement.config;
  std::string text = fmt::format("Detour {} is serving.\n\n", config.version);
  text += fmt::format(
      "Address:     {} ({}{}{})\n", address_text(announcement, announcement.port),
      config.tls ? "DERP over TLS" : "DERP over plain HTTP",
      announcement.http_port ? fmt::format(", HTTP on port {}", *announcement.http_port)
                             : std::string(),
      announcement.stun_port ? fmt::format(", STUN on UDP port {}", *announcement.stun_port)
                             : std::string());
  if (!config.hostname.empty()) text += fmt::format("Host name:   {}\n", config.hostname);
  text += fmt::format("Public key:  {}\n", announcement.public_key);
  if (!config.tls)
    return text +
           "\nClients need TLS: put something in front that ends TLS and passes the upgrade on.\n";

  text +=
      announcement.certificate != nullptr
          ? fmt::format("Certificate: {}\n", certificate_text(*announcement.certificate))
          : fmt::format("Certificate: ordered and renewed by ACME, kept in {}\n", config.cert_dir);
  return text + fmt::format(
                    "\nDERP map, for \"derpMap\" in the tailnet policy file (Headscale reads it "
                    "from a file):\n\n{}\n",
                    config::derp_map_snippet(map_entry(announcement)));
}

std::vector<std::string> announcement_lines(const Announcement& announcement) {
  const config::Config& config = announcement.config;
  std::vector<std::string> lines;
  if (announcement.stun_port)
    lines.push_back(fmt::format("STUN server listening on {}",
                                address_text(announcement, *announcement.stun_port)));
  if (announcement.http_port)
    lines.push_back(fmt::format("HTTP server listening on {}",
                                address_text(announcement, *announcement.http_port)));
  lines.push_back(fmt::format("{}: serving on {}{}", config.binary_name,
                              address_text(announcement, announcement.port),
                              config.tls ? " with TLS" : ""));
  lines.push_back(fmt::format("public key {}", announcement.public_key));
  if (announcement.certificate != nullptr && announcement.certificate->self_signed)
    lines.push_back(
        fmt::format("self-signed certificate for {}; clients need this node in their DERP map: {}",
                    config.hostname, config::derp_map_node(map_entry(announcement))));
  return lines;
}

}  // namespace detour::cli
