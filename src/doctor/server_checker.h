#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "acme/certificate.h"
#include "config/config.h"
#include "crypto/keys.h"
#include "doctor/check_server.h"
#include "doctor/finding.h"
#include "doctor/machine.h"
#include "doctor/report.h"

namespace detour::doctor {

/// The checks of check_server(), one after the other. Their definitions are by subject:
/// server_ports.cc (D03), server_files.cc (D05 to D08), server_admission.cc (D20, D21),
/// server_mesh.cc (D28, D29, D31), and the rest in check_server.cc.
class ServerChecker {
 public:
  ServerChecker(const ServerCheck& check, const ServerConfiguration& found, Report& report)
      : check_(check), found_(found), report_(report) {}

  void run();

 private:
  const config::Config& config() const { return found_.parsed->config; }
  uid_t service_user() const;
  void add(State state, std::string_view code, std::string_view fault, std::string cause,
           std::string fix = {});
  bool check_configuration();

  void check_ports();
  /// Whether the relay has it, as far as one can see.
  bool check_port(Protocol protocol, std::string_view what, const std::string& host,
                  std::uint16_t port);
  bool judge_port_of_relay(const std::string& name, const PortState& state);
  void port_taken(const std::string& name, const PortState& state);
  bool judge_port_before_start(const std::string& name, const PortState& state,
                               const std::string& host);

  void check_files();
  void check_secret(const std::string& path);
  void check_certificate();
  std::string service_variable(std::string_view name) const;

  void check_names();
  void check_map();

  void check_admission();
  void check_socket(const std::string& path);
  Finding socket_problem(const std::string& path);
  void check_verify_url(const std::string& text);
  void check_allow_file();
  void check_mesh();
  void check_mesh_peer(const config::MeshPeer& peer, const crypto::MeshKey& key);
  void check_proxies();
  void check_neighbour();

  void check_running_relay();
  /// D08: is what is served the file on disk?
  void check_reloaded(const Target& target, const std::string& ip);

  const ServerCheck& check_;
  const ServerConfiguration& found_;
  Report& report_;
  std::vector<acme::CertificatePtr> disk_;
  bool served_other_ = false;
  bool listens_ = false;
  bool answers_stun_ = false;
  bool answers_http_ = false;
};

/// Files of the configuration are read up to here.
inline constexpr std::size_t kConfigurationFileMax = 4 * 1024 * 1024;

/// What a text says before its first line break, and what behind it.
[[nodiscard]] std::string first_line(const std::string& text);
[[nodiscard]] std::string rest_of(const std::string& text);

/// The two files of the manual certificate mode.
struct CertificateFiles {
  std::string certificate;
  std::string key;
};
[[nodiscard]] CertificateFiles certificate_files(const config::Config& config);
/// Whether the configuration takes its certificate from files that somebody else brings.
[[nodiscard]] bool serves_manual_certificate(const config::Config& config);
/// The certificates of a PEM file; empty when it cannot be read.
[[nodiscard]] std::vector<acme::CertificatePtr> read_certificates(const std::string& path);
[[nodiscard]] bool is_self_signed(X509* certificate);

}  // namespace detour::doctor
