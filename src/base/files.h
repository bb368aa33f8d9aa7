#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>

/// Reading and writing the few small files that the relay keeps, with errors an operator can act
/// on.
namespace detour {

enum class FileProblem : std::uint8_t {
  kMissing,
  kDenied,
  kNotRegular,  ///< A directory, a device, a pipe.
  kTooLarge,
  kExists,
  kOther,
};

/// What went wrong with a file. `message` begins with its path and ends with what to do, without a
/// full stop.
struct FileError {
  FileProblem problem;
  std::string message;
};

/// The whole content of a regular file of at most `size_max` bytes.
///
/// kDenied names this user, and the owner and mode of the file or of the folder in its path that
/// stops it. Never blocks on a pipe or device.
[[nodiscard]] std::expected<std::string, FileError> read_file(const std::string& path,
                                                              std::size_t size_max);

/// Makes `path` with `content`: it appears complete and on disk, or not at all.
///
/// Written to a temporary file in the same folder, synced, and put in place without ever replacing
/// what is there (kExists). The folder has to exist.
[[nodiscard]] std::expected<void, FileError> write_new_file(const std::string& path,
                                                            std::string_view content, mode_t mode);

/// Puts `content` at `path`, in the place of what is there: complete and on disk, or nothing
/// changes. Otherwise like write_new_file.
[[nodiscard]] std::expected<void, FileError> replace_file(const std::string& path,
                                                          std::string_view content, mode_t mode);

/// Makes `path` and its parents where they are missing, with `mode` less the umask.
[[nodiscard]] std::expected<void, FileError> make_folders(const std::string& path, mode_t mode);

/// Whether something is at `path`. A link that leads nowhere counts as something, and so does what
/// this user may not look at.
[[nodiscard]] bool exists(const std::string& path);

/// The folder part of a path: "." when there is none.
[[nodiscard]] std::string folder_of(const std::string& path);

/// This process's user as messages name it: `user derp (uid 998)`.
[[nodiscard]] std::string this_user();

}  // namespace detour
