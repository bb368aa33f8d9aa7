#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "acme/certificate.h"
#include "base/clock.h"
#include "base/log.h"
#include "client/client.h"
#include "crypto/keys.h"
#include "server/relay.h"

/// A whole relay in the test's process, on a port that the kernel chooses.
namespace detour::test {

/// How long tests wait for what has to come. Never reached when all is well.
inline constexpr Duration kPatience = std::chrono::seconds(30);

/// Looks again and again until `is_so` or kPatience is over. Whether it came to be.
[[nodiscard]] bool wait_until(const std::function<bool()>& is_so);

/// Keeps what is logged.
class CollectedLog final : public Log {
 public:
  void write(LogLevel level, std::string_view message) override;
  [[nodiscard]] std::vector<std::string> lines() const;

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> lines_;
};

class TestRelay {
 public:
  struct Options {
    std::uint32_t workers = 1;
    bool tls = true;
    Duration write_timeout = std::chrono::seconds(2);
    Duration gather = std::chrono::microseconds(100);
    /// Where CONNECT leads (config.ace).
    std::optional<net::SocketAddress> divert_tunnels_to = {};
    std::string mesh_key = {};  ///< 64 hex digits; empty = no mesh.
    /// Where a reload finds the mesh key; without it the key stays.
    server::Relay::MeshKeyReader read_mesh_key = {};
    /// Changes what else there is, last of all.
    std::function<void(config::Config&)> configure = {};
  };
  explicit TestRelay(const Options& options);

  [[nodiscard]] server::Relay& relay() { return *relay_; }
  /// The configuration that it was started with.
  [[nodiscard]] const config::Config& config() const { return config_; }
  [[nodiscard]] const CollectedLog& log() const { return log_; }
  [[nodiscard]] std::uint16_t port() const { return relay_->address().port(); }

  /// How another relay of the test's process names this one in its list of mesh peers.
  [[nodiscard]] config::MeshPeer as_mesh_peer() const;

  /// What a client needs to reach this relay.
  [[nodiscard]] client::DialOptions dial_options(const crypto::NodePrivate& key) const;
  /// A logged-in client; null when the relay did not let it in. Any thread.
  [[nodiscard]] std::unique_ptr<client::Client> dial(const crypto::NodePrivate& key) const;
  [[nodiscard]] std::unique_ptr<client::Client> dial() const {
    return dial(crypto::NodePrivate::generate());
  }

  /// A value of the metrics page by name and labels: `derp_got_ping`,
  /// `derp_packets_dropped{reason="queue_head",kind="other"}`. Fails the test when there is none.
  [[nodiscard]] std::uint64_t metric(std::string_view name) const;
  /// Packets dropped for any reason.
  [[nodiscard]] std::uint64_t dropped() const;

 private:
  CollectedLog log_;
  bool tls_;
  config::Config config_;
  std::unique_ptr<server::Relay> relay_;
};

}  // namespace detour::test
