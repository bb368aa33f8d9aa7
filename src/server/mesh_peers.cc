#include "server/mesh_peers.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "server/shared.h"
#include "server/worker.h"

namespace detour::server {

std::expected<void, std::string> MeshPeers::set(const std::vector<config::MeshPeer>& peers,
                                                const crypto::MeshKey& key) {
  std::vector<MeshTarget> wanted;
  for (const config::MeshPeer& peer : peers) {
    auto target = MeshTarget::parse(peer);
    if (!target) return std::unexpected(target.error());
    if (std::ranges::find(wanted, *target) == wanted.end()) wanted.push_back(std::move(*target));
  }
  if (!wanted.empty()) {
    if (key.is_zero())
      return std::unexpected(
          "there are mesh peers (-mesh-with) but no mesh key: give all relays of the region the "
          "same 64 hex digits in a file (openssl rand -hex 32) and name it with -mesh-psk-file");
    if (auto prepared = prepare_tls(); !prepared) return prepared;
  }
  remove_all_but(wanted);
  const crypto::MeshKey before = shared_.mesh_key();
  if (!before.matches(key) && !(before.is_zero() && key.is_zero())) change_key(key);
  for (const MeshTarget& target : wanted)
    if (std::ranges::find(peers_, target, &Peer::target) == peers_.end()) add(target);
  return {};
}

std::expected<void, std::string> MeshPeers::prepare_tls() {
  if (tls_) return {};
  client::TlsSettings settings;
  settings.trust.authorities_file = authorities_file_;
  settings.keep_buffers = true;
  auto context = client::TlsContext::create(std::move(settings));
  if (!context) return std::unexpected(context.error().text());
  tls_ = std::move(*context);
  return {};
}

void MeshPeers::remove_all_but(const std::vector<MeshTarget>& wanted) {
  std::erase_if(peers_, [&](const Peer& peer) {
    if (std::ranges::find(wanted, peer.target) != wanted.end()) return false;
    shared_.workers[peer.worker]->post_remove_mesh_peer(peer.target);
    return true;
  });
}

void MeshPeers::add(const MeshTarget& target) {
  const std::size_t worker = next_worker_++ % shared_.workers.size();
  peers_.push_back({.target = target, .worker = worker});
  shared_.mesh_links.fetch_add(1, std::memory_order_relaxed);
  shared_.workers[worker]->post_mesh_peer(target, *tls_);
}

void MeshPeers::change_key(const crypto::MeshKey& key) {
  shared_.set_mesh_key(key);
  shared_.log.info(
      "the mesh key is another one: who logged in with the old one is closed, and links are made "
      "anew");
  for (const auto& worker : shared_.workers) worker->post_mesh_key_changed();
}

}  // namespace detour::server
