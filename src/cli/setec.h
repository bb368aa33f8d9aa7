#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>

#include "base/log.h"

/// Secrets from a setec server (github.com/tailscale/setec), as derper gets its mesh key
/// (-secrets-url).
namespace detour::cli {

struct Secret {
  std::string value;
  std::uint32_t version = 0;  ///< At least 1.
};

/// Where a secret comes from.
struct SetecSource {
  std::string url;         ///< "https://secrets.example.com"; a path may follow.
  std::string name;        ///< "prod/derp/meshkey"
  std::string cache_file;  ///< Keeps what came last, for when the server is away; empty = nothing.
};

/// derper's name for its mesh key below a prefix, joined as Go joins paths: "prod/derp/meshkey".
[[nodiscard]] std::string setec_mesh_key_name(std::string_view prefix);

/// The body of the request for the active version, unless that is `known_version` (0: in any case).
[[nodiscard]] std::string setec_request(std::string_view name, std::uint32_t known_version);
/// Reads the server's answer with status 200; nullopt when it is none.
[[nodiscard]] std::optional<Secret> read_setec_answer(std::string_view body);

/// Reads a secret out of the content of a cache file, in the format of setec's own client; nullopt
/// when it is not there.
[[nodiscard]] std::optional<Secret> read_setec_cache(std::string_view content,
                                                     std::string_view name);
/// The content with this secret put in; what else was there stays.
[[nodiscard]] std::string write_setec_cache(std::string_view content, std::string_view name,
                                            const Secret& secret, std::int64_t unix_seconds);

/// Asks the server for the value, and keeps it in the cache file. When the server cannot be reached
/// the value in the cache serves; without one the server is asked for 30 s.
///
/// Blocks. Fails with a message for the operator.
[[nodiscard]] std::expected<std::string, std::string> fetch_secret(const SetecSource& source,
                                                                   Log& log);

}  // namespace detour::cli
