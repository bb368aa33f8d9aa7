#include "server/shared.h"

#include "server/http_service.h"
#include "server/worker.h"

namespace detour::server {

Shared::Shared(const config::Config& config_in, const crypto::NodePrivate& key, Log& log_in)
    : config(config_in),
      private_key(key),
      public_key(private_key.public_key()),
      log(log_in),
      quiescence(config_in.workers),
      directory(quiescence) {}

Shared::~Shared() = default;

}  // namespace detour::server
