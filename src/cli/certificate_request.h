#pragma once

#include "acme/certificate.h"
#include "config/config.h"

namespace detour::cli {

/// Which certificate this relay serves, and how messages name the settings that say so.
[[nodiscard]] acme::CertificateRequest certificate_request(const config::Config& config);

}  // namespace detour::cli
