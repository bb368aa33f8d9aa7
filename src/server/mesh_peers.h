#pragma once

#include <cstddef>
#include <expected>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "client/tls_stream.h"
#include "config/config.h"
#include "crypto/keys.h"
#include "server/mesh_link.h"

namespace detour::server {

class Shared;

/// Which relays this one keeps links to, each on one of the workers, and the secret for them.
///
/// Used by the thread that starts and reloads the relay.
class MeshPeers {
 public:
  /// `shared` must outlive this, and its workers have to be there before the first set().
  /// `authorities_file` as in Relay::Options.
  MeshPeers(Shared& shared, std::string authorities_file)
      : shared_(shared), authorities_file_(std::move(authorities_file)) {}

  /// Makes links to those of `peers` that there are none to, ends those to others. With another
  /// `key` than before, who logged in with that one is closed and every link is made anew. On
  /// failure, with a text for the operator, nothing has changed.
  [[nodiscard]] std::expected<void, std::string> set(const std::vector<config::MeshPeer>& peers,
                                                     const crypto::MeshKey& key);

 private:
  struct Peer {
    MeshTarget target;
    std::size_t worker;
  };

  [[nodiscard]] std::expected<void, std::string> prepare_tls();
  void remove_all_but(const std::vector<MeshTarget>& wanted);
  void add(const MeshTarget& target);
  void change_key(const crypto::MeshKey& key);

  Shared& shared_;
  const std::string authorities_file_;
  std::optional<client::TlsContext> tls_;  ///< Once there is a link.
  std::vector<Peer> peers_;
  std::size_t next_worker_ = 0;
};

}  // namespace detour::server
