#include "support/test_relay.h"

#include <gtest/gtest.h>

#include <charconv>
#include <thread>
#include <utility>

#include "acme/pem.h"
#include "support/temp_folder.h"

namespace detour::test {

namespace {

/// One certificate for all relays of the process.
const acme::ServerCertificate* loopback_certificate() {
  static const auto made = acme::make_self_signed("127.0.0.1", std::chrono::system_clock::now());
  return made ? &*made : nullptr;
}

/// Calls `use` with name and value of each line of a metrics page.
template <typename Use>
void each_metric(const std::string& page, Use use) {
  std::string_view rest = page;
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    const std::size_t space = line.rfind(' ');
    if (line.starts_with('#') || space == std::string_view::npos) continue;
    const std::string_view digits = line.substr(space + 1);
    std::uint64_t value = 0;
    std::from_chars(digits.data(), digits.data() + digits.size(), value);
    use(line.substr(0, space), value);
  }
}

}  // namespace

bool wait_until(const std::function<bool()>& is_so) {
  const TimePoint deadline = Clock::now() + kPatience;
  while (!is_so()) {
    if (Clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

void CollectedLog::write(LogLevel /*level*/, std::string_view message) {
  const std::lock_guard lock(mutex_);
  lines_.emplace_back(message);
}

std::vector<std::string> CollectedLog::lines() const {
  const std::lock_guard lock(mutex_);
  return lines_;
}

TestRelay::TestRelay(const Options& options) : tls_(options.tls) {
  EXPECT_TRUE(crypto::init());
  config::Config config;
  config.listen = {.host = "127.0.0.1", .port = 0};
  config.tls = options.tls;
  config.http_port = std::nullopt;
  config.stun = false;
  config.hostname = "127.0.0.1";
  config.workers = options.workers;
  config.tcp_write_timeout = options.write_timeout;
  config.gather = options.gather;
  config.version = "test";
  config.binary_name = "detour";
  if (options.configure) options.configure(config);
  config_ = config;
  const auto mesh_key = crypto::MeshKey::parse(options.mesh_key);
  // The certificate of all relays vouches for itself.
  const TempFolder folder;
  const std::string authorities =
      folder.write("relays.pem", acme::to_pem(loopback_certificate()->leaf.get()));
  auto started = server::Relay::start({.config = std::move(config),
                                       .key = crypto::NodePrivate::generate(),
                                       .mesh_key = mesh_key ? *mesh_key : crypto::MeshKey(),
                                       .read_mesh_key = options.read_mesh_key,
                                       .mesh_authorities_file = authorities,
                                       .certificate = loopback_certificate(),
                                       .divert_tunnels_to = options.divert_tunnels_to,
                                       .log = &log_});
  EXPECT_TRUE(started.has_value()) << started.error();
  relay_ = std::move(*started);
}

config::MeshPeer TestRelay::as_mesh_peer() const {
  return {.host = "127.0.0.1:" + std::to_string(port()), .dial_host = ""};
}

client::DialOptions TestRelay::dial_options(const crypto::NodePrivate& key) const {
  client::DialOptions options{.host = "127.0.0.1", .port = port(), .use_tls = tls_};
  options.tls.trust.kind = client::Trust::Kind::kAnyone;
  options.key = key;
  options.timeout = kPatience;
  return options;
}

std::unique_ptr<client::Client> TestRelay::dial(const crypto::NodePrivate& key) const {
  auto dialled = client::Client::dial(dial_options(key));
  if (dialled) return std::move(*dialled);
  ADD_FAILURE() << dialled.error().text();
  return nullptr;
}

std::uint64_t TestRelay::metric(std::string_view name) const {
  const std::string page = relay_->metrics_text();
  bool found = false;
  std::uint64_t result = 0;
  each_metric(page, [&](std::string_view line_name, std::uint64_t value) {
    if (line_name != name) return;
    found = true;
    result = value;
  });
  EXPECT_TRUE(found) << "no metric " << name;
  return result;
}

std::uint64_t TestRelay::dropped() const {
  std::uint64_t total = 0;
  const std::string page = relay_->metrics_text();
  each_metric(page, [&](std::string_view name, std::uint64_t value) {
    if (name.starts_with("derp_packets_dropped{")) total += value;
  });
  return total;
}

}  // namespace detour::test
