#include "doctor/machine.h"

#include <dirent.h>
#include <fmt/format.h>
#include <grp.h>
#include <ifaddrs.h>
#include <pwd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <ranges>
#include <set>
#include <sstream>

#include "net/address.h"
#include "net/fd.h"

namespace detour::doctor {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kFileMax = 4 * 1024 * 1024;
constexpr std::uint64_t kOpenFilesMin = 4096;
constexpr std::uint64_t kSomaxconnMin = 1024;
constexpr std::uint64_t kMemoryMin = 128ULL * 1024 * 1024;
constexpr int kGroupsMax = 256;

std::string read_all(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text;
  std::array<char, 16 * 1024> buffer;
  while (text.size() < kFileMax && (file.read(buffer.data(), buffer.size()), file.gcount() > 0))
    text.append(buffer.data(), static_cast<std::size_t>(file.gcount()));
  return text;
}

std::optional<std::uint64_t> number_in(std::string_view text) {
  const auto first = text.find_first_of("0123456789");
  if (first == std::string_view::npos) return std::nullopt;
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data() + first, text.data() + text.size(), number);
  return error == std::errc{} ? std::optional(number) : std::nullopt;
}

std::optional<std::uint64_t> read_number(const std::string& path) {
  return number_in(read_all(path));
}

std::vector<std::string> split_at_zeros(const std::string& text) {
  std::vector<std::string> parts;
  std::size_t begin = 0;
  while (begin < text.size()) {
    const std::size_t end = std::min(text.find('\0', begin), text.size());
    parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

std::vector<int> process_ids(const MachineRoots& roots) {
  std::vector<int> ids;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(roots.proc, error)) {
    const std::string name = entry.path().filename();
    int id = 0;
    const auto [end, failed] = std::from_chars(name.data(), name.data() + name.size(), id);
    if (failed == std::errc{} && end == name.data() + name.size()) ids.push_back(id);
  }
  std::ranges::sort(ids);
  return ids;
}

std::string base_name(std::string_view path) {
  return std::string(path.substr(path.rfind('/') + 1));  // npos + 1 is 0.
}

/// A pid of a process that has one of these sockets open.
int holder_of(const std::set<std::string>& sockets, const MachineRoots& roots) {
  for (const int pid : process_ids(roots)) {
    std::error_code error;
    const auto folder = fmt::format("{}/{}/fd", roots.proc, pid);
    for (const auto& entry : fs::directory_iterator(folder, error)) {
      const auto link = fs::read_symlink(entry.path(), error);
      if (!error && sockets.contains(link.string())) return pid;
    }
  }
  return 0;
}

/// The sockets bound to a port, as /proc/PID/fd names them.
std::set<std::string> sockets_of(Protocol protocol, std::uint16_t port, const MachineRoots& roots) {
  constexpr std::string_view kListening = "0A";
  std::set<std::string> sockets;
  const std::string name = protocol == Protocol::kTcp ? "tcp" : "udp";
  const std::string suffix = fmt::format(":{:04X}", port);
  for (const auto& file : {name, name + "6"}) {
    std::istringstream lines(read_all(fmt::format("{}/net/{}", roots.proc, file)));
    for (std::string line; std::getline(lines, line);) {
      std::istringstream words(line);
      const std::vector<std::string> fields{std::istream_iterator<std::string>(words), {}};
      if (fields.size() < 10 || !fields[1].ends_with(suffix)) continue;
      if (protocol == Protocol::kTcp && fields[3] != kListening) continue;
      sockets.insert(fmt::format("socket:[{}]", fields[9]));
    }
  }
  return sockets;
}

/// Binds, and for TCP listens, for a moment. Gives 0 or errno.
int try_port(Protocol protocol, const net::SocketAddress& address) {
  const int type = protocol == Protocol::kTcp ? SOCK_STREAM : SOCK_DGRAM;
  const net::UniqueFd fd(socket(address.family(), type | SOCK_CLOEXEC, 0));
  if (!fd) return errno;
  const int on = 1;
  if (protocol == Protocol::kTcp)
    (void)setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd.get(), address.get(), address.size()) != 0) return errno;
  if (protocol == Protocol::kTcp && listen(fd.get(), 1) != 0) return errno;
  return 0;
}

void add(std::vector<Finding>* findings, State state, std::string_view fault, std::string cause,
         std::string fix = {}) {
  findings->push_back({.state = state,
                       .code = "D26",
                       .fault = fault,
                       .cause = std::move(cause),
                       .fix = std::move(fix)});
}

/// The hard limit, for the relay raises the soft one itself.
std::optional<std::uint64_t> open_files_limit(int pid, const MachineRoots& roots) {
  if (pid == 0) {
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return std::nullopt;
    return limit.rlim_max;
  }
  const auto limits = read_all(fmt::format("{}/{}/limits", roots.proc, pid));
  const auto at = limits.find("Max open files");
  if (at == std::string::npos) return std::nullopt;
  std::istringstream words(limits.substr(at + 14, limits.find('\n', at) - at - 14));
  std::string soft;
  std::string hard;
  words >> soft >> hard;
  return number_in(hard);
}

void judge_open_files(int pid, const MachineRoots& roots, std::vector<Finding>* findings) {
  const auto limit = open_files_limit(pid, roots);
  if (!limit) return;
  if (*limit < kOpenFilesMin)
    add(findings, State::kWarn, "open-files",
        fmt::format("{} files may be open at most, and each client needs one", *limit),
        "In the unit: LimitNOFILE=65536; in compose files: ulimits: {nofile: 65536}; in a shell: "
        "ulimit -n 65536");
  else
    add(findings, State::kPass, "", fmt::format("{} files may be open", *limit));
}

void judge_memory(const MachineRoots& roots, int pid, std::vector<Finding>* findings) {
  const std::string who = pid == 0 ? "self" : fmt::format("{}", pid);
  const auto line = read_all(fmt::format("{}/{}/cgroup", roots.proc, who));
  const auto at = line.find("0::");
  if (at == std::string::npos) return;
  const auto group = line.substr(at + 3, line.find('\n', at) - at - 3);
  const auto limit = read_number(fmt::format("{}/fs/cgroup{}/memory.max", roots.sys, group));
  if (limit && *limit < kMemoryMin)
    add(findings, State::kWarn, "memory",
        fmt::format("its group may use {} MiB of memory", *limit / (1024 * 1024)),
        "Raise it to 128 MiB or more: MemoryMax= in the unit, mem_limit in compose files.");
}

void judge_kernel(const MachineRoots& roots, std::vector<Finding>* findings) {
  if (const auto backlog = read_number(roots.proc + "/sys/net/core/somaxconn");
      backlog && *backlog < kSomaxconnMin)
    add(findings, State::kWarn, "somaxconn",
        fmt::format("net.core.somaxconn is {}: a rush of new clients overflows it", *backlog),
        "sysctl -w net.core.somaxconn=4096, and the same line in /etc/sysctl.d/");
  const auto count = read_number(roots.proc + "/sys/net/netfilter/nf_conntrack_count");
  const auto most = read_number(roots.proc + "/sys/net/netfilter/nf_conntrack_max");
  if (count && most && *count > *most / 5 * 4)
    add(findings, State::kWarn, "conntrack",
        fmt::format("{} of {} tracked connections are in use: beyond that new ones are dropped",
                    *count, *most),
        "sysctl -w net.netfilter.nf_conntrack_max=262144, or do not track the relay's ports "
        "(NOTRACK).");
  std::string control = read_all(roots.proc + "/sys/net/ipv4/tcp_congestion_control");
  while (!control.empty() && control.back() == '\n') control.pop_back();
  if (!control.empty() && control != "bbr")
    add(findings, State::kInfo, "congestion",
        fmt::format("TCP's congestion control is {}: on paths that lose packets BBR is much faster",
                    control),
        "sysctl -w net.core.default_qdisc=fq net.ipv4.tcp_congestion_control=bbr, and the same in "
        "/etc/sysctl.d/");
}

/// Whether the mode bits let a user do that (4 read, 1 enter).
bool permits(const struct stat& status, uid_t uid, const std::vector<gid_t>& groups, unsigned bit) {
  if (uid == 0) return true;
  if (status.st_uid == uid) return (status.st_mode >> 6 & bit) != 0;
  if (std::ranges::find(groups, status.st_gid) != groups.end())
    return (status.st_mode >> 3 & bit) != 0;
  return (status.st_mode & bit) != 0;
}

std::vector<gid_t> groups_of(uid_t uid) {
  const passwd* entry = getpwuid(uid);
  if (entry == nullptr) return {};
  std::vector<gid_t> groups(kGroupsMax);
  int count = kGroupsMax;
  if (getgrouplist(entry->pw_name, entry->pw_gid, groups.data(), &count) < 0) count = kGroupsMax;
  groups.resize(static_cast<std::size_t>(count));
  return groups;
}

std::string owner_text(const struct stat& status) {
  const group* entry = getgrgid(status.st_gid);
  return fmt::format("owned by {}, group {}, mode {:04o}", user_text(status.st_uid),
                     entry != nullptr ? entry->gr_name : fmt::format("{}", status.st_gid),
                     status.st_mode & 07777U);
}

}  // namespace

std::vector<RelayProcess> find_relays(const MachineRoots& roots) {
  std::vector<RelayProcess> relays;
  for (const int pid : process_ids(roots)) {
    const auto folder = fmt::format("{}/{}", roots.proc, pid);
    std::error_code error;
    auto program = fs::read_symlink(folder + "/exe", error).string();
    constexpr std::string_view kDeleted = " (deleted)";  // Replaced on disk while it runs.
    if (program.ends_with(kDeleted)) program.resize(program.size() - kDeleted.size());
    const auto arguments = split_at_zeros(read_all(folder + "/cmdline"));
    if (arguments.empty() || (!program.empty() && base_name(program) != "detour")) continue;
    RelayProcess relay{.pid = pid, .program = arguments[0], .args = {}, .environment = {}};
    relay.as_derper = base_name(arguments[0]) == "derper";
    const bool serves = arguments.size() > 1 && arguments[1] == "serve";
    // Without the right to see the program only Detour's own command line tells.
    if (relay.as_derper ? program.empty() : !serves) continue;
    if (program.empty() && base_name(arguments[0]) != "detour") continue;
    relay.args.assign(arguments.begin() + (relay.as_derper ? 1 : 2), arguments.end());
    struct stat status{};
    if (stat(folder.c_str(), &status) == 0) relay.uid = status.st_uid;
    if (const auto variables = split_at_zeros(read_all(folder + "/environ"));
        !variables.empty() || access((folder + "/environ").c_str(), R_OK) == 0) {
      relay.environment.emplace();
      for (const auto& variable : variables) {
        const auto equals = variable.find('=');
        if (equals != std::string::npos)
          relay.environment->emplace(variable.substr(0, equals), variable.substr(equals + 1));
      }
    }
    relays.push_back(std::move(relay));
  }
  return relays;
}

PortState look_at_port(Protocol protocol, const std::string& host, std::uint16_t port,
                       const MachineRoots& roots) {
  PortState state;
  const auto address = net::SocketAddress::parse(host, port);
  state.error = address ? try_port(protocol, *address) : EADDRNOTAVAIL;
  // A machine without IPv6 serves all of IPv4.
  if (host.empty() && (state.error == EAFNOSUPPORT || state.error == EADDRNOTAVAIL))
    state.error = try_port(protocol, *net::SocketAddress::parse("0.0.0.0", port));
  switch (state.error) {
    case 0:
      break;
    case EADDRINUSE: {
      state.end = PortState::End::kTaken;
      state.holder_pid = holder_of(sockets_of(protocol, port, roots), roots);
      if (state.holder_pid != 0) {
        state.holder = read_all(fmt::format("{}/{}/comm", roots.proc, state.holder_pid));
        while (!state.holder.empty() && state.holder.back() == '\n') state.holder.pop_back();
      }
      break;
    }
    case EACCES:
    case EPERM:
      state.end = PortState::End::kDenied;
      break;
    case EADDRNOTAVAIL:
      state.end = PortState::End::kNoSuchAddress;
      break;
    default:
      state.end = PortState::End::kFailed;
  }
  return state;
}

std::vector<Finding> judge_machine(int pid, const MachineRoots& roots) {
  std::vector<Finding> findings;
  judge_open_files(pid, roots, &findings);
  judge_memory(roots, pid, &findings);
  judge_kernel(roots, &findings);
  return findings;
}

std::string user_text(uid_t uid) {
  const passwd* entry = getpwuid(uid);
  return entry != nullptr ? fmt::format("{} (uid {})", entry->pw_name, uid)
                          : fmt::format("uid {}", uid);
}

std::string why_unreadable(const std::string& path, uid_t uid) {
  const auto groups = groups_of(uid);
  std::error_code error;
  const fs::path whole = fs::absolute(path, error);
  std::vector<fs::path> folders;
  for (fs::path at = whole.parent_path();; at = at.parent_path()) {
    folders.push_back(at);
    if (at == at.root_path() || at.empty()) break;
  }
  for (const auto& folder : folders | std::views::reverse) {
    struct stat status{};
    if (stat(folder.c_str(), &status) != 0)
      return fmt::format("{}: {}", folder.string(), std::strerror(errno));
    if (!permits(status, uid, groups, 1))
      return fmt::format("{} may not enter {}, which is {}", user_text(uid), folder.string(),
                         owner_text(status));
  }
  struct stat status{};
  if (stat(whole.c_str(), &status) != 0)
    return fmt::format("{}: {}", whole.string(), std::strerror(errno));
  if (!permits(status, uid, groups, 4))
    return fmt::format("{} may not read {}, which is {}", user_text(uid), whole.string(),
                       owner_text(status));
  return {};
}

std::vector<std::string> own_addresses() {
  std::vector<std::string> addresses;
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return addresses;
  const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> owner(list, freeifaddrs);
  for (const ifaddrs* at = list; at != nullptr; at = at->ifa_next) {
    if (at->ifa_addr == nullptr) continue;
    const int family = at->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6) continue;
    sockaddr_storage storage{};
    std::memcpy(&storage, at->ifa_addr,
                family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6));
    const auto ip = net::SocketAddress::from(storage).ip_text();
    if (!ip.starts_with("127.") && ip != "::1") addresses.push_back(ip);
  }
  return addresses;
}

}  // namespace detour::doctor
