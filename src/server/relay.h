#pragma once

#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "acme/certificate.h"
#include "acme/keeper.h"
#include "admin/map_page.h"
#include "admin/status.h"
#include "base/clock.h"
#include "base/log.h"
#include "config/config.h"
#include "crypto/keys.h"
#include "net/address.h"
#include "net/fd.h"

namespace detour::server {

class Control;
class Monitor;
class Shared;

/// A running relay: its listeners, workers and shared state.
class Relay {
 public:
  /// Reads the mesh key that a configuration names; fails with a text for the operator.
  using MeshKeyReader =
      std::function<std::expected<crypto::MeshKey, std::string>(const config::Config&)>;

  struct Options {
    config::Config config;
    crypto::NodePrivate key;
    crypto::MeshKey mesh_key{};     ///< The secret that the relays of a region share; zero = none.
    MeshKeyReader read_mesh_key{};  ///< For reload(); without it the key stays.
    /// PEM of the CAs that vouch for mesh peers; empty = those of the system (SSL_CERT_FILE).
    std::string mesh_authorities_file{};
    /// Needed when config.tls and certificates are read from files; only read during start().
    const acme::ServerCertificate* certificate = nullptr;
    admin::MapPage map{};  ///< The DERP map to serve; without a path none is.
    /// For tests: where CONNECT leads (-ace), whatever allowed target is asked for.
    std::optional<net::SocketAddress> divert_tunnels_to{};
    Log* log = nullptr;  ///< Must outlive the relay.
    /// Called on a thread of the relay when a drain is over; has to see to it that stop() is
    /// called.
    std::function<void()> on_drained{};
  };

  /// Binds everything and starts the workers. On failure nothing is left running; the text says
  /// what could not be bound or used, and what to do.
  [[nodiscard]] static std::expected<std::unique_ptr<Relay>, std::string> start(Options options);

  /// Stops as stop() does.
  ~Relay();
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;

  /// Closes the listeners, sends what waits, ends all connections; returns within 2 seconds.
  void stop();

  /// Hands a changed configuration to all parts that can take it without a restart, which also read
  /// their files again (server/reload.h). What cannot be changed stays as it is, silently: the
  /// caller compares. From the thread that started the relay, not after stop().
  void reload(const config::Config& changed);

  /// Where it listens, with the ports that the kernel chose for port 0.
  [[nodiscard]] net::SocketAddress address() const;
  [[nodiscard]] std::optional<net::SocketAddress> http_address() const;
  [[nodiscard]] std::optional<net::SocketAddress> stun_address() const;
  /// The listener for monitoring.
  [[nodiscard]] std::optional<net::SocketAddress> metrics_address() const;
  [[nodiscard]] const crypto::NodePublic& public_key() const;

  /// How the certificates are doing, one for each; nothing without TLS. Any thread.
  [[nodiscard]] std::vector<acme::CertificateStatus> certificate_status() const;

  /// A picture of the relay and its clients, not older than `max_age`. Waits for the workers; any
  /// thread but theirs.
  [[nodiscard]] std::shared_ptr<const admin::RelayStatus> status(Duration max_age = {}) const;

  /// Frees the buffers that nobody used since the last call; for once in a while. Any thread.
  void release_spare_memory();

  /// The control socket; empty when there is none.
  [[nodiscard]] std::string control_socket() const;

  /// Derper's metrics as /debug/varz gives them.
  [[nodiscard]] std::string metrics_text() const;

 private:
  using Started = std::expected<void, std::string>;

  explicit Relay(const Options& options);

  // The steps of start(), in their order; each fails with a text for the operator.
  Started apply_settings(Options& options);
  Started load_certificates(Options& options);
  Started listen(Options& options);
  Started make_workers(Options& options);
  Started join_mesh(Options& options);
  Started start_services(Options& options);
  /// Notes where it listens, for those who ask.
  void note_listening();

  net::UniqueFd main_;
  net::UniqueFd http_;
  net::UniqueFd stun_;
  std::unique_ptr<Shared> shared_;
  std::unique_ptr<Monitor> monitor_;
  std::unique_ptr<Control> control_;
};

}  // namespace detour::server
