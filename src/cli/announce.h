#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "acme/certificate.h"
#include "config/config.h"
#include "config/derp_map.h"

/// What a relay that has started says about itself.
namespace detour::cli {

/// The relay as it runs, with the ports that the kernel chose.
struct Announcement {
  const config::Config& config;
  const acme::ServerCertificate* certificate = nullptr;  ///< Null without TLS and with ACME.
  std::string public_key;                                ///< `nodekey:` and 64 hex digits.
  std::uint16_t port = 0;
  std::optional<std::uint16_t> http_port;
  std::optional<std::uint16_t> stun_port;
};

/// The relay as a DERP map has to have it.
[[nodiscard]] config::DerpMapEntry map_entry(const Announcement& announcement);

/// For people: address, host name, key, certificate, and the DERP map to paste. Several lines, the
/// last one with its newline.
[[nodiscard]] std::string announcement_text(const Announcement& announcement);

/// For the log, one line each, worded like derper's: what is served where, and for a certificate
/// that has to be pinned the node of the DERP map.
[[nodiscard]] std::vector<std::string> announcement_lines(const Announcement& announcement);

}  // namespace detour::cli
