#include "cli/certificate_request.h"

namespace detour::cli {

acme::CertificateRequest certificate_request(const config::Config& config) {
  acme::CertificateRequest request;
  request.hostname = config.hostname;
  request.cert_dir = config.cert_dir;
  request.cert_file = config.cert_file;
  request.key_file = config.cert_key_file;
  request.allow_incomplete_chain = config.allow_incomplete_chain;
  if (config.personality == config::Personality::kDerper) {
    request.cert_dir_setting = "-certdir";
    request.hostname_setting = "-hostname";
    request.allow_incomplete_chain_setting = "-allow-incomplete-chain";
  }
  return request;
}

}  // namespace detour::cli
