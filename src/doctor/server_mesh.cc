#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "admission/curl_inquirer.h"
#include "base/files.h"
#include "client/client.h"
#include "config/address.h"
#include "crypto/keys.h"
#include "doctor/proxies.h"
#include "doctor/server_checker.h"
#include "doctor/target.h"

namespace detour::doctor {

void ServerChecker::check_mesh() {
  const auto& c = config();
  if (c.mesh_with.empty()) return;
  std::string hex = c.mesh_key;
  if (hex.empty() && !c.mesh_key_file.empty()) {
    const auto content = read_file(c.mesh_key_file, kConfigurationFileMax);
    if (!content) return;  // D05 tells.
    hex = *content;
    std::erase_if(hex, [](char ch) { return ch == '\n' || ch == '\r' || ch == ' ' || ch == '\t'; });
  }
  const auto key = crypto::MeshKey::parse(hex);
  if (!key) {
    add(State::kFail, "D29", "mesh-key",
        hex.empty() ? "the relay is to mesh with others and has no mesh key"
                    : "the mesh key is not 64 hex digits",
        "openssl rand -hex 32 > /etc/derp-mesh.key, the same file on every relay of the region, "
        "and --mesh-psk-file with it.");
    return;
  }
  for (const auto& peer : c.mesh_with) check_mesh_peer(peer, *key);
}

void ServerChecker::check_mesh_peer(const config::MeshPeer& peer, const crypto::MeshKey& key) {
  const auto target = parse_target("https://" + peer.host);
  if (!target) {
    add(State::kFail, "D29", "mesh-peer", target.error());
    return;
  }
  report_.doing(fmt::format("asking the mesh peer {}", peer.host));
  client::DialOptions dial{.host = target->host, .port = target->port};
  dial.address = peer.dial_host;
  dial.tls.trust.authorities_file = service_variable("SSL_CERT_FILE");
  dial.key = crypto::NodePrivate::generate();
  dial.fast_start = false;
  dial.timeout = check_.probe.timeout;
  dial.info.mesh_key = key;
  const auto client = client::Client::dial(dial);
  if (!client) {
    add(State::kFail, "D29", "peer-unreachable",
        fmt::format("the mesh peer {} cannot be used: {}", peer.host, client.error().text()),
        fmt::format("Ask the doctor about it: detour doctor https://{}", peer.host));
    return;
  }
  // Only who knows its mesh key may watch; others are cut off.
  derp::FrameHeader header{.type = derp::FrameType::kWatchConns, .payload_size = 0};
  std::array<std::uint8_t, derp::kFrameHeaderSize> frame{};
  derp::write_frame_header(frame, header);
  const bool refused =
      !(*client)->send_raw(frame, check_.probe.timeout) || !(*client)->ping(check_.probe.timeout);
  if (refused)
    add(State::kFail, "D29", "key-refused",
        fmt::format("the mesh peer {} rejects our mesh key", peer.host),
        "The same --mesh-psk-file on every relay of the region, and a restart of each.");
  else
    add(State::kPass, "D29", "", fmt::format("the mesh peer {} takes our mesh key", peer.host));
}

void ServerChecker::check_proxies() {
  const auto set = proxies_in([this](std::string_view name) { return service_variable(name); });
  if (set.empty()) return;
  const bool matters =
      !config().verify_urls.empty() || config().cert_mode != config::CertMode::kManual;
  add(matters ? State::kWarn : State::kInfo, "D31", "proxy",
      fmt::format("the service's environment has {}: {}", fmt::join(set, ", "),
                  matters ? "verify URLs and ACME may go through it"
                          : "nothing that is configured uses it"),
      "Take it out of the unit (UnsetEnvironment=HTTP_PROXY HTTPS_PROXY), or set NO_PROXY for "
      "those hosts.");
}

void ServerChecker::check_neighbour() {
  const bool runs = exists(admission::default_tailscaled_socket()) ||
                    std::ranges::any_of(config().tailscaled_sockets,
                                        [](const auto& path) { return exists(path); });
  if (!runs) return;
  add(State::kInfo, "D28", "neighbour",
      "a Tailscale node runs on this machine: when this relay is its home, both go down "
      "together, and its own traffic does not show whether others reach the relay");
}

}  // namespace detour::doctor
