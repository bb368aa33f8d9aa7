#include "server/shared.h"

#include <algorithm>
#include <utility>

#include "server/certificates.h"
#include "server/http_service.h"
#include "server/mesh_peers.h"
#include "server/surveyor.h"
#include "server/worker.h"

namespace detour::server {

Shared::Shared(const config::Config& config_in, const crypto::NodePrivate& key,
               std::string mesh_authorities_file, Log& log_in)
    : config(config_in),
      private_key(key),
      public_key(private_key.public_key()),
      log(log_in),
      quiescence(config_in.workers),
      directory(quiescence),
      mesh_peers(std::make_unique<MeshPeers>(*this, std::move(mesh_authorities_file))),
      bootstrap_dns(config_in.bootstrap_dns_names, config_in.unpublished_bootstrap_dns_names,
                    log_in),
      drop_log(log_in),
      surveyor(std::make_unique<Surveyor>(*this)),
      limits(config_in) {
  for (const std::string& cidr : config.trusted_proxies) {
    if (const auto prefix = admin::parse_ip_prefix(cidr)) trusted_proxies_.push_back(*prefix);
  }
}

Shared::~Shared() = default;

crypto::MeshKey Shared::mesh_key() const {
  const std::lock_guard lock(mesh_key_mutex_);
  return mesh_key_;
}

void Shared::set_mesh_key(const crypto::MeshKey& key) {
  const std::lock_guard lock(mesh_key_mutex_);
  mesh_key_ = key;
}

relay::ReceiveRate Shared::receive_rate() const {
  const std::lock_guard lock(receive_rate_mutex_);
  return receive_rate_;
}

void Shared::set_receive_rate(relay::ReceiveRate rate) {
  {
    const std::lock_guard lock(receive_rate_mutex_);
    receive_rate_ = rate;
  }
  // Who logs in meanwhile has the new rate already, and gets it once more.
  for (const auto& worker : workers) worker->post_receive_rate(rate);
}

bool Shared::is_trusted_proxy(const net::SocketAddress& address) const {
  const auto bytes = address.mapped_bytes();
  return std::ranges::any_of(trusted_proxies_,
                             [&](const auto& prefix) { return prefix.contains(bytes); });
}

}  // namespace detour::server
