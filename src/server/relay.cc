#include "server/relay.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <utility>

#include "config/rate_config.h"
#include "net/socket.h"
#include "server/certificates.h"
#include "server/control.h"
#include "server/http_service.h"
#include "server/mesh_peers.h"
#include "server/monitor.h"
#include "server/shared.h"
#include "server/surveyor.h"
#include "server/worker.h"

namespace detour::server {

namespace {

constexpr std::string_view kCannotWatch = "cannot watch the listening sockets: out of memory";

std::uint64_t descriptors_for_connections() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return UINT64_MAX;
  return std::max<std::uint64_t>(limit.rlim_cur, 2 * kDescriptorsReserved) - kDescriptorsReserved;
}

/// A tunnel has a second connection, that to its target.
void reserve_tunnels(Shared& shared) {
  const auto most =
      std::min<std::uint64_t>(ConnectTunnels::kTunnelsMax, shared.descriptors_for_connections / 4);
  shared.tunnels.tunnels.set_max(static_cast<std::uint32_t>(most));
  shared.descriptors_for_connections -= most;
}

/// Sets the receive rate that the -rate-config file says. Without a file nothing changes.
std::expected<void, std::string> apply_rate_config(Shared& shared, const config::Config& config) {
  if (config.rate_config_file.empty()) return {};
  const auto loaded = config::load_rate_config(config.rate_config_file);
  if (!loaded) return std::unexpected(loaded.error());
  const auto rate =
      relay::ReceiveRate::applied({.bytes_per_second = loaded->per_client_bytes_per_second,
                                   .burst_bytes = loaded->per_client_burst_bytes});
  shared.set_receive_rate(rate);
  shared.log.info(
      rate.bytes_per_second == 0
          ? fmt::format("rate config {}: clients send as fast as they can", config.rate_config_file)
          : fmt::format("rate config {}: each client sends at most {} bytes a second, {} at once",
                        config.rate_config_file, rate.bytes_per_second, rate.burst_bytes));
  return {};
}

/// The configuration names no file any more.
void lift_rate_limit(Shared& shared) {
  if (shared.receive_rate().bytes_per_second == 0) return;
  shared.set_receive_rate({});
  shared.log.info("rate config: none is set any more, so clients send as fast as they can");
}

std::expected<void, std::string> reload_mesh(Shared& shared, const config::Config& changed,
                                             const Relay::MeshKeyReader& read_key) {
  crypto::MeshKey key = shared.mesh_key();
  if (read_key) {
    const auto read = read_key(changed);
    if (!read) return std::unexpected(read.error());
    key = *read;
  }
  return shared.mesh_peers->set(changed.mesh_with, key);
}

}  // namespace

std::expected<std::unique_ptr<Relay>, std::string> Relay::start(Options options) {
  std::unique_ptr<Relay> relay(new Relay(options));
  // Each builds on those before it.
  const auto steps = {&Relay::apply_settings, &Relay::load_certificates, &Relay::listen,
                      &Relay::make_workers,   &Relay::join_mesh,         &Relay::start_services};
  for (const auto step : steps)
    if (auto done = (relay.get()->*step)(options); !done) return std::unexpected(done.error());
  // Before the workers, which ask it how the certificates are doing; an authority that comes at
  // once waits in the backlog of the listener.
  Shared& shared = *relay->shared_;
  if (shared.certificates) shared.certificates->start(options.certificate);
  for (const auto& worker : shared.workers) worker->start_thread();
  return relay;
}

Relay::Relay(const Options& options)
    : shared_(std::make_unique<Shared>(options.config, options.key, options.mesh_authorities_file,
                                       *options.log)) {}

Relay::Started Relay::apply_settings(Options& options) {
  Shared& shared = *shared_;
  const config::Config& config = shared.config;
  shared.descriptors_for_connections = descriptors_for_connections();
  shared.drop_log.watch(config.log_drops);
  if (config.ace) reserve_tunnels(shared);
  shared.tunnels.divert_to = options.divert_tunnels_to;
  if (auto set = apply_rate_config(shared, config); !set) return set;
  shared.reload_subscribers.add([&shared](const config::Config& changed) {
    shared.limits.set(changed);
    shared.drop_log.watch(changed.log_drops);
    if (changed.rate_config_file.empty()) {
      lift_rate_limit(shared);
    } else if (auto set = apply_rate_config(shared, changed); !set) {
      shared.log.error(set.error() + "; the rates stay as they were");
    }
    if (auto applied = shared.admission.apply(changed); !applied)
      shared.log.error(applied.error() + "; clients are checked as before");
  });
  return {};
}

Relay::Started Relay::load_certificates(Options& options) {
  Shared& shared = *shared_;
  if (!shared.config.tls) return {};
  if (shared.config.tls_records == config::TlsRecords::kIpsecMb &&
      !net::RecordKey::has_backend(net::RecordKey::Backend::kIpsecMb))
    return std::unexpected(
        "tls-records is ipsec-mb, but this program was built without that library or the CPU "
        "lacks AVX: set it to auto");
  auto certificates =
      Certificates::make(shared.config, shared.public_key, options.certificate, shared.log);
  if (!certificates) return std::unexpected(certificates.error());
  shared.certificates = std::move(*certificates);
  shared.tls = &shared.certificates->tls();
  shared.reload_subscribers.add(
      [&shared](const config::Config& changed) { shared.certificates->check_now(changed); });
  return {};
}

Relay::Started Relay::listen(Options& options) {
  const config::Config& config = shared_->config;
  const auto address = net::SocketAddress::parse(config.listen.host, config.listen.port);
  if (!address)
    return std::unexpected(
        fmt::format("listen address {:?} is not an IP address", config.listen.host));
  auto http_service = HttpService::make(*shared_, std::move(options.map));
  if (!http_service) return std::unexpected(http_service.error());
  shared_->http = std::move(*http_service);

  const net::TcpOptions tcp{.keepalive_idle = config.tcp_keepalive_time,
                            .user_timeout = config.tcp_user_timeout};
  auto main = net::listen_tcp(*address, tcp);
  if (!main) return std::unexpected(main.error());
  main_ = std::move(*main);
  if (config.tls && config.http_port) {
    const auto http_address = net::SocketAddress::parse(config.listen.host, *config.http_port);
    auto http = net::listen_tcp(*http_address, tcp);
    if (!http) return std::unexpected(http.error());
    http_ = std::move(*http);
  }
  if (config.stun) {
    const auto stun_address = net::SocketAddress::parse(config.listen.host, config.stun_port);
    auto stun = net::bind_udp(*stun_address);
    if (stun) {
      stun_ = std::move(*stun);
    } else if (config.personality == config::Personality::kDerper) {
      // derper goes on without STUN and says nothing; we go on too, but say it.
      shared_->log.error(stun.error() + "; relaying goes on without STUN");
    } else {
      return std::unexpected(stun.error());
    }
  }
  note_listening();
  return {};
}

Relay::Started Relay::make_workers(Options& /*options*/) {
  Shared& shared = *shared_;
  for (std::size_t i = 0; i < shared.config.workers; ++i)
    shared.workers.push_back(std::make_unique<Worker>(shared, i));
  for (const auto& worker : shared.workers) {
    if (!worker->add_listener(main_.get(), ListenerKind::kMain) ||
        (http_ && !worker->add_listener(http_.get(), ListenerKind::kHttp)))
      return std::unexpected(std::string(kCannotWatch));
  }
  // One worker, so that answers leave in the order of the requests.
  if (stun_ && !shared.workers.back()->add_stun(stun_.get()))
    return std::unexpected(std::string(kCannotWatch));
  return {};
}

Relay::Started Relay::join_mesh(Options& options) {
  Shared& shared = *shared_;
  shared.set_mesh_key(options.mesh_key);
  if (auto set = shared.mesh_peers->set(shared.config.mesh_with, options.mesh_key); !set)
    return set;
  shared.reload_subscribers.add(
      [&shared, read_key = std::move(options.read_mesh_key)](const config::Config& changed) {
        if (auto set = reload_mesh(shared, changed, read_key); !set)
          shared.log.error(set.error() + "; the mesh stays as it was");
      });
  return {};
}

/// What else the relay asks and answers: admission, monitoring, the control socket.
Relay::Started Relay::start_services(Options& options) {
  Shared& shared = *shared_;
  const config::Config& config = shared.config;
  if (auto applied = shared.admission.apply(config); !applied)
    return std::unexpected(applied.error());
  if (config.metrics_listen) {
    auto monitor = Monitor::start(shared, *config.metrics_listen, config.metrics_token_file);
    if (!monitor) return std::unexpected(monitor.error());
    monitor_ = std::move(*monitor);
    shared.reload_subscribers.add(
        [&shared, monitor = monitor_.get()](const config::Config& changed) {
          if (auto read = monitor->reload_token(changed.metrics_token_file); !read)
            shared.log.error(read.error() + "; the token stays as it was");
        });
  }
  auto control = Control::start(shared);
  if (!control) return std::unexpected(control.error());
  control_ = std::move(*control);
  shared.drain.set_up({main_.get(), http_.get()}, std::move(options.on_drained));
  return {};
}

void Relay::note_listening() {
  const auto note = [this](std::string what, const net::UniqueFd& fd) {
    if (fd)
      shared_->listening.push_back(
          {.what = std::move(what), .address = net::local_address(fd.get()).text()});
  };
  note("derp", main_);
  note("http", http_);
  note("stun", stun_);
}

Relay::~Relay() {
  stop();
}

void Relay::stop() {
  if (monitor_) monitor_->begin_stop();
  shared_->surveyor->begin_stop();
  shared_->drain.stop();
  shared_->bootstrap_dns.stop();
  // What it waits for may take longer; the destructor sees its end.
  if (shared_->certificates) shared_->certificates->request_stop();
  for (const auto& worker : shared_->workers) worker->post_stop();
  for (const auto& worker : shared_->workers) worker->join();
  shared_->admission.stop();
  shared_->debug_desk.stop();
  for (const auto& worker : shared_->workers) worker->drop_posted();
  monitor_.reset();
  control_.reset();
  main_.reset();
  http_.reset();
  stun_.reset();
}

void Relay::reload(const config::Config& changed) {
  shared_->reload_subscribers.run(changed);
}

net::SocketAddress Relay::address() const {
  return net::local_address(main_.get());
}

std::optional<net::SocketAddress> Relay::http_address() const {
  if (!http_) return std::nullopt;
  return net::local_address(http_.get());
}

std::optional<net::SocketAddress> Relay::stun_address() const {
  if (!stun_) return std::nullopt;
  return net::local_address(stun_.get());
}

std::vector<acme::CertificateStatus> Relay::certificate_status() const {
  return shared_->certificates ? shared_->certificates->status()
                               : std::vector<acme::CertificateStatus>();
}

std::shared_ptr<const admin::RelayStatus> Relay::status(Duration max_age) const {
  return shared_->surveyor->take(max_age);
}

void Relay::release_spare_memory() {
  shared_->block_depot.drop_unused();
  for (const auto& worker : shared_->workers) worker->post_release_spare();
}

std::string Relay::control_socket() const {
  return control_ ? control_->path() : std::string();
}

std::string Relay::metrics_text() const {
  return metrics::format_prometheus(shared_->http->snapshot());
}

std::optional<net::SocketAddress> Relay::metrics_address() const {
  if (!monitor_) return std::nullopt;
  return monitor_->address();
}

const crypto::NodePublic& Relay::public_key() const {
  return shared_->public_key;
}

}  // namespace detour::server
