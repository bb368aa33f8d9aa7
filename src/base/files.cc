#include "base/files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <random>
#include <system_error>
#include <utility>

namespace detour {
namespace {

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  ~FileDescriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  [[nodiscard]] int get() const { return fd_; }
  [[nodiscard]] bool valid() const { return fd_ >= 0; }

 private:
  const int fd_;
};

std::string errno_text(int error) {
  return std::generic_category().message(error);
}

std::string user_name(uid_t uid) {
  std::array<char, 4096> buffer;
  passwd entry{};
  passwd* found = nullptr;
  if (getpwuid_r(uid, &entry, buffer.data(), buffer.size(), &found) == 0 && found != nullptr)
    return entry.pw_name;
  return fmt::format("{}", uid);
}

std::string group_name(gid_t gid) {
  std::array<char, 4096> buffer;
  group entry{};
  group* found = nullptr;
  if (getgrgid_r(gid, &entry, buffer.data(), buffer.size(), &found) == 0 && found != nullptr)
    return entry.gr_name;
  return fmt::format("{}", gid);
}

/// `owner root:ssl-cert, mode 0640`
std::string owner_and_mode(const std::string& path) {
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) return "owner unknown";
  return fmt::format("owner {}:{}, mode {:04o}", user_name(status.st_uid),
                     group_name(status.st_gid), status.st_mode & 07777U);
}

/// The outermost folder in front of `path` that this user may not pass through.
std::optional<std::string> closed_folder(const std::string& path) {
  std::filesystem::path walked;
  const auto folder = std::filesystem::path(path).parent_path();
  for (const auto& part : folder) {
    walked /= part;
    if (::faccessat(AT_FDCWD, walked.c_str(), X_OK, AT_EACCESS) != 0 && errno == EACCES)
      return walked.string();
  }
  return std::nullopt;
}

FileError denied(const std::string& path, int error) {
  const std::string user = user_name(::geteuid());
  if (const auto folder = closed_folder(path))
    return {FileProblem::kDenied,
            fmt::format("{}: folder {} ({}) does not let {} through; open it with `setfacl -m "
                        "u:{}:x {}`, or copy the file to a folder of that user",
                        path, *folder, owner_and_mode(*folder), this_user(), user, *folder)};
  return {FileProblem::kDenied,
          fmt::format("{}: {} may not read it ({}): {}; allow it with `setfacl -m u:{}:r {}` or "
                      "`chown {} {}`",
                      path, this_user(), owner_and_mode(path), errno_text(error), user, path, user,
                      path)};
}

FileError missing(const std::string& path) {
  std::error_code ignored;
  if (const auto target = std::filesystem::read_symlink(path, ignored); !target.empty())
    return {FileProblem::kMissing,
            fmt::format("{}: is a link to {}, which does not exist", path, target.string())};
  return {FileProblem::kMissing, fmt::format("{}: does not exist", path)};
}

FileError open_error(const std::string& path, int error) {
  switch (error) {
    case ENOENT:
      return missing(path);
    case EACCES:
    case EPERM:
      return denied(path, error);
    case ENOTDIR:
      return {FileProblem::kMissing,
              fmt::format("{}: a part of this path is a file and not a folder", path)};
    default:
      return {FileProblem::kOther, fmt::format("{}: cannot be read: {}", path, errno_text(error))};
  }
}

/// For what cannot be made in `folder`.
FileError write_error(const std::string& path, const std::string& folder, int error) {
  const auto problem = error == EACCES || error == EPERM ? FileProblem::kDenied
                       : error == EEXIST                 ? FileProblem::kExists
                       : error == ENOENT                 ? FileProblem::kMissing
                                                         : FileProblem::kOther;
  switch (error) {
    case EACCES:
    case EPERM: {
      const auto closed = closed_folder(path).value_or(folder);
      return {problem, fmt::format("{}: {} may not write in folder {} ({}); allow it with `chown "
                                   "{} {}`, or choose another place",
                                   path, this_user(), closed, owner_and_mode(closed),
                                   user_name(::geteuid()), closed)};
    }
    case EROFS:
      return {problem, fmt::format("{}: folder {} is read-only here; mount it writable, or choose "
                                   "another place",
                                   path, folder)};
    case ENOSPC:
    case EDQUOT:
      return {problem, fmt::format("{}: cannot be written: {}; make room on that disk", path,
                                   errno_text(error))};
    default:
      return {problem, fmt::format("{}: cannot be written: {}", path, errno_text(error))};
  }
}

bool write_all(int fd, std::string_view content) {
  while (!content.empty()) {
    const ssize_t written = ::write(fd, content.data(), content.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return false;
    content.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

enum class Existing : std::uint8_t { kKeep, kReplace };

/// Gives the finished file its name, unless that is taken and to be kept. Returns 0 or an errno.
int publish(const std::string& temporary, const std::string& path, Existing existing) {
  if (existing == Existing::kReplace)
    return ::rename(temporary.c_str(), path.c_str()) == 0 ? 0 : errno;
  if (::renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, path.c_str(), RENAME_NOREPLACE) == 0)
    return 0;
  if (errno != EINVAL && errno != ENOSYS) return errno;
  // Some file systems (NFS, 9p) cannot rename without replacing; a hard link cannot replace either.
  if (::link(temporary.c_str(), path.c_str()) != 0) return errno;
  ::unlink(temporary.c_str());
  return 0;
}

int sync_folder(const std::string& folder) {
  const FileDescriptor fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return errno;
  // Not every file system can sync a folder; those that cannot say EINVAL.
  if (::fsync(fd.get()) != 0 && errno != EINVAL) return errno;
  return 0;
}

/// Fills the temporary file and puts it in place. Returns 0 or an errno.
int write_and_publish(int fd, const std::string& temporary, const std::string& path,
                      std::string_view content, mode_t mode, Existing existing) {
  if (::fchmod(fd, mode) != 0) return errno;
  if (!write_all(fd, content)) return errno;
  if (::fsync(fd) != 0) return errno;
  return publish(temporary, path, existing);
}

std::expected<void, FileError> write_file(const std::string& path, std::string_view content,
                                          mode_t mode, Existing existing) {
  const std::string folder = folder_of(path);
  const std::string temporary = fmt::format("{}.tmp-{:08x}", path, std::random_device{}());
  int error = 0;
  {
    const FileDescriptor fd(
        ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!fd.valid()) return std::unexpected(write_error(path, folder, errno));
    error = write_and_publish(fd.get(), temporary, path, content, mode, existing);
  }
  if (error != 0) {
    ::unlink(temporary.c_str());
    return std::unexpected(write_error(path, folder, error));
  }
  if (const int sync_error = sync_folder(folder); sync_error != 0)
    return std::unexpected(write_error(path, folder, sync_error));
  return {};
}

}  // namespace

std::string this_user() {
  return fmt::format("user {} (uid {})", user_name(::geteuid()), ::geteuid());
}

std::string folder_of(const std::string& path) {
  const auto folder = std::filesystem::path(path).parent_path().string();
  return folder.empty() ? "." : folder;
}

bool exists(const std::string& path) {
  struct stat status{};
  return ::lstat(path.c_str(), &status) == 0 || (errno != ENOENT && errno != ENOTDIR);
}

std::expected<std::string, FileError> read_file(const std::string& path, std::size_t size_max) {
  // Not blocking: opening a pipe without a writer would otherwise wait for ever.
  const FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) return std::unexpected(open_error(path, errno));

  struct stat status{};
  if (::fstat(fd.get(), &status) != 0) return std::unexpected(open_error(path, errno));
  if (S_ISDIR(status.st_mode))
    return std::unexpected(FileError{
        FileProblem::kNotRegular,
        fmt::format("{}: is a folder, a file is needed (when it is mounted into a container: "
                    "the file was missing on the host, so a folder was made in its place)",
                    path)});
  if (!S_ISREG(status.st_mode))
    return std::unexpected(
        FileError{FileProblem::kNotRegular, fmt::format("{}: is not a regular file", path)});

  // One byte more than allowed tells a file that is too large, even one that grows meanwhile.
  std::string content(size_max + 1, '\0');
  std::size_t size = 0;
  while (size < content.size()) {
    const ssize_t got = ::read(fd.get(), content.data() + size, content.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return std::unexpected(open_error(path, errno));
    if (got == 0) break;
    size += static_cast<std::size_t>(got);
  }
  if (size > size_max)
    return std::unexpected(
        FileError{FileProblem::kTooLarge,
                  fmt::format("{}: is larger than {} KiB, so it is not the file that is meant",
                              path, size_max / 1024)});
  content.resize(size);
  return content;
}

std::expected<void, FileError> write_new_file(const std::string& path, std::string_view content,
                                              mode_t mode) {
  return write_file(path, content, mode, Existing::kKeep);
}

std::expected<void, FileError> replace_file(const std::string& path, std::string_view content,
                                            mode_t mode) {
  return write_file(path, content, mode, Existing::kReplace);
}

std::expected<void, FileError> make_folders(const std::string& path, mode_t mode) {
  std::filesystem::path walked;
  for (const auto& part : std::filesystem::path(path)) {
    walked /= part;
    if (::mkdir(walked.c_str(), mode) == 0) continue;
    const int error = errno;
    // A read-only or closed parent answers so for a folder that is there.
    std::error_code ignored;
    if (std::filesystem::is_directory(walked, ignored)) continue;
    if (error == EEXIST)
      return std::unexpected(
          FileError{FileProblem::kNotRegular,
                    fmt::format("{}: cannot be made, since {} is a file", path, walked.string())});
    return std::unexpected(write_error(walked.string(), folder_of(walked.string()), error));
  }
  return {};
}

}  // namespace detour
