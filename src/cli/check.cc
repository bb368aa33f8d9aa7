#include "cli/check.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>
#include <system_error>

#include "acme/certificate.h"
#include "base/files.h"
#include "cli/mesh_key.h"
#include "cli/relay_key.h"
#include "config/address.h"
#include "config/rate_config.h"
#include "server/certificates.h"

namespace detour::cli {
namespace {

/// Larger than any of the files is allowed to be by the part that reads it.
constexpr std::size_t kFileSizeMax = 64 * 1024 * 1024;

/// A file that appears when the relay starts needs a folder that can be written to, or made.
std::string folder_problem(const std::string& path) {
  std::string folder = folder_of(path);
  while (!exists(folder) && folder != "/" && folder != ".") folder = folder_of(folder);
  if (::access(folder.c_str(), W_OK | X_OK) == 0) return {};
  return fmt::format("{}: cannot be made: {} ({}): {}", path, folder, this_user(),
                     std::generic_category().message(errno));
}

void check_key(const config::Config& config, CheckReport& report) {
  if (config.dev) return;
  if (!exists(config.key_file)) {
    if (auto problem = folder_problem(config.key_file); !problem.empty())
      report.problems.push_back("relay key: " + problem);
    else
      report.notes.push_back(fmt::format("relay key: {} will be made", config.key_file));
    return;
  }
  const auto key = load_or_make_key(config.key_file);
  if (!key)
    report.problems.push_back(key.error());
  else
    report.notes.push_back(fmt::format("relay key: {} is good, the public key is {}",
                                       config.key_file, key->key.public_key().typed()));
}

void check_certificate(const config::Config& config, CheckReport& report) {
  if (!config.tls) return;
  if (config.cert_mode != config::CertMode::kManual) {
    if (auto problem = folder_problem(config.cert_dir + "/x"); !problem.empty())
      report.problems.push_back("certificates: " + problem);
    return;
  }
  const std::string stem = config.cert_dir + "/" + acme::certificate_file_stem(config.hostname);
  if (config.cert_file.empty() && config::is_ip(config.hostname) && !exists(stem + ".crt") &&
      !exists(stem + ".key")) {
    if (auto problem = folder_problem(stem + ".crt"); !problem.empty())
      report.problems.push_back("certificate: " + problem);
    else
      report.notes.push_back(fmt::format("certificate: {}.crt will be made", stem));
    return;
  }
  const auto certificate = acme::load_certificate(server::certificate_request(config));
  if (!certificate) {
    report.problems.push_back(certificate.error());
    return;
  }
  report.notes.push_back(fmt::format("certificate: {} is good", certificate->cert_file));
  for (const auto& warning : certificate->warnings) report.notes.push_back(warning);
}

void check_readable(std::string_view what, const std::string& path, CheckReport& report) {
  if (path.empty()) return;
  if (auto content = read_file(path, kFileSizeMax); !content)
    report.problems.push_back(fmt::format("{}: {}", what, content.error().message));
}

}  // namespace

CheckReport check_files(const config::Config& config) {
  CheckReport report;
  check_key(config, report);
  check_certificate(config, report);
  if (const auto mesh_key = load_mesh_key(config); !mesh_key)
    report.problems.push_back(mesh_key.error());
  check_readable("allow file", config.allow_file, report);
  if (!config.rate_config_file.empty()) {
    if (const auto rate = config::load_rate_config(config.rate_config_file); !rate)
      report.problems.push_back(rate.error());
  }
  check_readable("Authorization header", config.verify_url_auth_file, report);
  check_readable("token of the DERP map", config.serve_map_token_file, report);
  check_readable("metrics token", config.metrics_token_file, report);
  check_readable("debug key", config.debug_key_file, report);
  check_readable("ACME server's authority", config.acme_ca_file, report);
  if (!config.acme_dns_hook.empty() && ::access(config.acme_dns_hook.c_str(), X_OK) != 0)
    report.problems.push_back(fmt::format("DNS hook: {}: cannot be run: {}", config.acme_dns_hook,
                                          std::generic_category().message(errno)));
  return report;
}

}  // namespace detour::cli
