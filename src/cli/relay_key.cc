#include "cli/relay_key.h"

#include "base/bytes.h"
#include "base/files.h"
#include "config/key_file.h"

namespace detour::cli {
namespace {

constexpr std::size_t kKeyFileSizeMax = 64 * 1024;
/// Of new folders, less the umask, as derper makes them.
constexpr mode_t kFolderMode = 0777;
constexpr mode_t kKeyFileMode = 0600;

void wipe(std::string& text) {
  crypto::wipe({reinterpret_cast<std::uint8_t*>(text.data()), text.size()});
}

std::unexpected<std::string> failure(const FileError& error) {
  return std::unexpected("relay key: " + error.message);
}

std::expected<LoadedKey, std::string> make_key(const std::string& path) {
  if (auto folder = make_folders(folder_of(path), kFolderMode); !folder)
    return failure(folder.error());
  LoadedKey made{.key = crypto::NodePrivate::generate(), .just_made = true};
  std::string content = config::format_key_file(made.key);
  const auto written = write_new_file(path, content, kKeyFileMode);
  wipe(content);
  if (!written) return failure(written.error());
  return made;
}

}  // namespace

std::expected<LoadedKey, std::string> load_or_make_key(const std::string& path) {
  // A link that leads nowhere exists: what it is meant to lead to is missing, not new.
  if (!exists(path)) return make_key(path);

  auto content = read_file(path, kKeyFileSizeMax);
  if (!content) return failure(content.error());
  const auto key = config::parse_key_file(path, *content);
  wipe(*content);
  if (!key) return std::unexpected(key.error());
  return LoadedKey{.key = *key, .just_made = false};
}

}  // namespace detour::cli
