#include "cli/mesh_key.h"

#include <fmt/format.h>

#include <string_view>

#include "base/files.h"
#include "cli/setec.h"

namespace detour::cli {
namespace {

constexpr std::size_t kMeshKeyFileSizeMax = 4096;

void wipe(std::string& text) {
  crypto::wipe({reinterpret_cast<std::uint8_t*>(text.data()), text.size()});
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kWhiteSpace = " \t\r\n\v\f";
  const std::size_t begin = text.find_first_not_of(kWhiteSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kWhiteSpace) + 1 - begin);
}

std::expected<crypto::MeshKey, std::string> parse(std::string_view text, std::string_view source) {
  const auto refuse = [&](std::string_view what) {
    return std::unexpected(fmt::format(
        "mesh key: {}: {}; all relays of the region need the same 64 hex digits, made once with "
        "`openssl rand -hex 32`",
        source, what));
  };
  const std::string_view digits = trimmed(text);
  if (text.empty()) return refuse("is empty, and there are relays to mesh with");
  if (digits.empty()) return refuse("holds white space alone");
  const auto key = crypto::MeshKey::parse(digits);
  if (!key)
    return refuse(digits.size() == 64 ? std::string("has something else than hex digits")
                                      : fmt::format("has {} characters", digits.size()));
  if (key->is_zero()) return refuse("is a key of zeros, which is no key");
  return *key;
}

}  // namespace

std::expected<crypto::MeshKey, std::string> load_mesh_key(const config::Config& config) {
  if (!config.mesh_key.empty()) return parse(config.mesh_key, "the one in the environment");
  if (config.mesh_key_file.empty()) return crypto::MeshKey();

  auto content = read_file(config.mesh_key_file, kMeshKeyFileSizeMax);
  if (!content) return std::unexpected("mesh key: " + content.error().message);
  // derper takes an empty file for "no mesh key". With peers to mesh with that cannot be meant.
  if (content->empty() && config.mesh_with.empty()) return crypto::MeshKey();
  auto key = parse(*content, config.mesh_key_file);
  wipe(*content);
  return key;
}

std::expected<crypto::MeshKey, std::string> fetch_or_load_mesh_key(const config::Config& config,
                                                                   Log& log) {
  if (config.secrets_url.empty()) return load_mesh_key(config);
  const SetecSource source{.url = config.secrets_url,
                           .name = setec_mesh_key_name(config.secrets_path_prefix),
                           .cache_file = config.secrets_cache_file};
  auto secret = fetch_secret(source, log);
  if (!secret) return std::unexpected(secret.error());
  auto key = parse(*secret, fmt::format("the secret {} of {}", source.name, source.url));
  wipe(*secret);
  return key;
}

}  // namespace detour::cli
