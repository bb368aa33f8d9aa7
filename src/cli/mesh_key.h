#pragma once

#include <expected>
#include <string>

#include "base/log.h"
#include "config/config.h"
#include "crypto/keys.h"

namespace detour::cli {

/// The secret that the relays of a region share: `mesh_key` itself, or else what stands in
/// `mesh_key_file`; zero when neither is set, and for an empty file when there is nobody to mesh
/// with.
///
/// Fails with a message for the operator that names the source and what to do, and has no part of
/// the key in it.
[[nodiscard]] std::expected<crypto::MeshKey, std::string> load_mesh_key(
    const config::Config& config);

/// The same, from the setec server in `secrets_url` when there is one. May block for half a minute.
[[nodiscard]] std::expected<crypto::MeshKey, std::string> fetch_or_load_mesh_key(
    const config::Config& config, Log& log);

}  // namespace detour::cli
