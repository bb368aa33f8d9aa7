#include <fmt/format.h>
#include <fmt/ranges.h>
#include <openssl/x509.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <string_view>
#include <utility>

#include "acme/certificate.h"
#include "acme/pem.h"
#include "base/files.h"
#include "base/variable.h"
#include "client/client.h"
#include "config/address.h"
#include "doctor/judge_certificate.h"
#include "doctor/server_checker.h"

namespace detour::doctor {

CertificateFiles certificate_files(const config::Config& config) {
  if (!config.cert_file.empty())
    return {config.cert_file,
            config.cert_key_file.empty() ? config.cert_file : config.cert_key_file};
  const auto stem = config.cert_dir + "/" + acme::certificate_file_stem(config.hostname);
  return {stem + ".crt", stem + ".key"};
}

std::vector<acme::CertificatePtr> read_certificates(const std::string& path) {
  const auto text = read_file(path, kConfigurationFileMax);
  if (!text) return {};
  auto content = acme::parse_pem(path, *text);
  if (!content) return {};
  return std::move(content->certificates);
}

bool is_self_signed(X509* certificate) {
  return X509_NAME_cmp(X509_get_subject_name(certificate), X509_get_issuer_name(certificate)) == 0;
}

bool serves_manual_certificate(const config::Config& config) {
  return config.tls && config.cert_mode == config::CertMode::kManual;
}

namespace {

/// Whether the doctor's own user may not even see the file, which says nothing about the service.
bool is_hidden_from_us(const std::string& path, uid_t service) {
  struct stat status{};
  return geteuid() != service && stat(path.c_str(), &status) != 0 && errno == EACCES;
}

}  // namespace

void ServerChecker::check_files() {
  std::vector<std::pair<std::string_view, std::string>> files = {
      {"mesh key", config().mesh_key_file},
      {"allow file", config().allow_file},
      {"file of rate limits", config().rate_config_file},
      {"Authorization header", config().verify_url_auth_file},
      {"token of the DERP map", config().serve_map_token_file},
      {"metrics token", config().metrics_token_file}};
  if (exists(config().key_file)) {
    files.emplace_back("relay's key", config().key_file);
    check_secret(config().key_file);
  }
  if (serves_manual_certificate(config())) {
    const auto [certificate, key] = certificate_files(config());
    if (config().cert_file.empty() && config::is_ip(config().hostname) && !exists(certificate) &&
        !exists(key)) {
      add(State::kInfo, "D05", "will-be-made", certificate + " will be made at the first start");
    } else {
      files.emplace_back("certificate", certificate);
      if (key != certificate) files.emplace_back("certificate's key", key);
      check_secret(key);
    }
  }
  // One folder that cannot be entered is one fault.
  std::map<std::string, std::vector<std::string_view>> faults;
  std::vector<std::string_view> hidden;
  for (const auto& [what, path] : files) {
    if (path.empty()) continue;
    if (is_hidden_from_us(path, service_user())) {
      hidden.push_back(what);
      continue;
    }
    if (auto why = why_unreadable(path, service_user()); !why.empty())
      faults[std::move(why)].push_back(what);
  }
  for (const auto& [why, what] : faults)
    add(State::kFail, "D05", "unreadable",
        fmt::format("the {} cannot be read: {}", fmt::join(what, " and the "), why),
        fmt::format("chown, chgrp or chmod so that {} can read it and enter every folder above "
                    "it; in a container mount the folder, not the file.",
                    user_text(service_user())));
  if (!hidden.empty())
    add(State::kInfo, "D05", "unseen",
        fmt::format("this user may not look at the {}", fmt::join(hidden, " and the ")),
        "Run the doctor as root or as the user of the service.");
  const bool all_readable = faults.empty() && hidden.empty();
  if (all_readable)
    add(State::kPass, "D05", "",
        fmt::format("{} can read every file it needs", user_text(service_user())));
  if (all_readable && serves_manual_certificate(config())) check_certificate();
}

void ServerChecker::check_secret(const std::string& path) {
  struct stat status{};
  if (stat(path.c_str(), &status) != 0 || (status.st_mode & 07) == 0) return;
  add(State::kWarn, "D05", "secret-open",
      fmt::format("every user of this machine can read {}, which is secret", path),
      "chmod 600 " + path);
}

void ServerChecker::check_certificate() {
  const auto [certificate_file, key_file] = certificate_files(config());
  if (!exists(certificate_file)) return;
  if (::access(certificate_file.c_str(), R_OK) != 0 || ::access(key_file.c_str(), R_OK) != 0) {
    // The service can: that has been judged.
    add(State::kInfo, "D05", "unseen",
        fmt::format("this user may not read {} and its key, so they were not compared",
                    certificate_file),
        "Run the doctor as root or as the user of the service.");
    return;
  }
  disk_ = read_certificates(certificate_file);
  const auto key_text = read_file(key_file, kConfigurationFileMax);
  if (disk_.empty() || !key_text) {
    add(State::kFail, "D05", "no-certificate",
        fmt::format("there is no certificate in {}", certificate_file),
        "Put the full chain there, in PEM form (-----BEGIN CERTIFICATE-----).");
    return;
  }
  const auto keys = acme::parse_pem(key_file, *key_text);
  const bool matches = keys && std::ranges::any_of(keys->keys, [this](const auto& key) {
                         return X509_check_private_key(disk_.front().get(), key.get()) == 1;
                       });
  if (!matches) {
    add(State::kFail, "D05", "key-mismatch",
        fmt::format("the key in {} does not belong to the certificate in {}", key_file,
                    certificate_file),
        "Install both from the same renewal: acme.sh --install-cert with --key-file and "
        "--fullchain-file.");
    disk_.clear();
    return;
  }
  // What runs is judged by what it serves.
  if (found_.process) return;
  const bool pinned = is_self_signed(disk_.front().get()) && config::is_ip(config().hostname);
  CertificateCase served{.sent = disk_,
                         .has_meta = true,
                         .name = config().hostname,
                         .sends_sni = !config::is_ip(config().hostname),
                         .insecure = config().allow_incomplete_chain};
  if (pinned) served.pin = client::parse_pin(pin_of(disk_.front().get()));
  served.authorities_file = service_variable("SSL_CERT_FILE");
  for (auto& finding : judge_certificate(served)) report_.add(std::move(finding));
}

std::string ServerChecker::service_variable(std::string_view name) const {
  if (found_.process && found_.process->environment) {
    const auto at = found_.process->environment->find(name);
    return at == found_.process->environment->end() ? std::string() : at->second;
  }
  return variable({std::string(name).c_str()});
}

}  // namespace detour::doctor
