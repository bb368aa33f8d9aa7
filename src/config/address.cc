#include "config/address.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <system_error>
#include <utility>
#include <vector>

namespace detour::config {
namespace {

constexpr std::size_t kHostnameSizeMax = 253;  // RFC 1035, in text form.
constexpr std::size_t kLabelSizeMax = 63;

/// A text as it was pasted, and what was taken out or replaced to make sense of it.
struct Repaired {
  std::string text;
  std::vector<std::string> repairs;  ///< "quotes removed"
};

struct Replacement {
  std::string_view from;  ///< UTF-8.
  std::string_view to;
  std::string_view repair;
};

constexpr std::string_view kQuotesRemoved = "quotes removed";
constexpr std::string_view kSpacesRemoved = "spaces removed";
constexpr std::string_view kWidthReplaced = "full-width characters replaced";

constexpr std::array kReplacements = std::to_array<Replacement>({
    {"\"", "", kQuotesRemoved},
    {"'", "", kQuotesRemoved},
    {"`", "", kQuotesRemoved},
    {"\\", "", kQuotesRemoved},      // Of an escaped quote.
    {"\u2018", "", kQuotesRemoved},  // Single and double, left, right, low and reversed.
    {"\u2019", "", kQuotesRemoved},
    {"\u201a", "", kQuotesRemoved},
    {"\u201b", "", kQuotesRemoved},
    {"\u201c", "", kQuotesRemoved},
    {"\u201d", "", kQuotesRemoved},
    {"\u201e", "", kQuotesRemoved},
    {"\u201f", "", kQuotesRemoved},
    {"\u00ab", "", kQuotesRemoved},  // Guillemets and corner brackets.
    {"\u00bb", "", kQuotesRemoved},
    {"\u300c", "", kQuotesRemoved},
    {"\u300d", "", kQuotesRemoved},
    {"\uff02", "", kQuotesRemoved},
    {"\uff07", "", kQuotesRemoved},
    {"\uff1a", ":", kWidthReplaced},
    {"\uff0e", ".", kWidthReplaced},
    {"\u3002", ".", kWidthReplaced},  // Ideographic full stop.
    {"\uff3b", "[", kWidthReplaced},
    {"\uff3d", "]", kWidthReplaced},
    {"\uff10", "0", kWidthReplaced},
    {"\uff11", "1", kWidthReplaced},
    {"\uff12", "2", kWidthReplaced},
    {"\uff13", "3", kWidthReplaced},
    {"\uff14", "4", kWidthReplaced},
    {"\uff15", "5", kWidthReplaced},
    {"\uff16", "6", kWidthReplaced},
    {"\uff17", "7", kWidthReplaced},
    {"\uff18", "8", kWidthReplaced},
    {"\uff19", "9", kWidthReplaced},
    {"\u00a0", " ", ""},  // Other spaces; what happens to spaces is decided afterwards.
    {"\u3000", " ", ""},
    {"\u200b", " ", ""},
    {"\ufeff", " ", ""},
    {"\t", " ", ""},
    {"\r", " ", ""},
    {"\n", " ", ""},
});

void note(std::vector<std::string>& repairs, std::string_view repair) {
  if (!repair.empty() && std::ranges::find(repairs, repair) == repairs.end())
    repairs.emplace_back(repair);
}

/// Without spaces at its ends and beside colons: elsewhere a space may have parted two values.
std::string without_spaces(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == ' ') {
      const std::size_t next = text.find_first_not_of(' ', i);
      const bool at_end = out.empty() || next == std::string_view::npos;
      if (at_end || out.back() == ':' || text[next] == ':') continue;
    }
    out += text[i];
  }
  return out;
}

Repaired repair(std::string_view text) {
  Repaired result;
  std::string replaced;
  while (!text.empty()) {
    const auto found = std::ranges::find_if(
        kReplacements, [&](const Replacement& entry) { return text.starts_with(entry.from); });
    if (found == kReplacements.end()) {
      replaced += text[0];
      text.remove_prefix(1);
      continue;
    }
    replaced += found->to;
    note(result.repairs, found->repair);
    text.remove_prefix(found->from.size());
  }
  result.text = without_spaces(replaced);
  if (result.text.size() != replaced.size()) note(result.repairs, kSpacesRemoved);
  return result;
}

/// `value` in quotes, with what a terminal would not show made visible.
std::string quoted(std::string_view value) {
  std::string out = "\"";
  for (const char c : value) {
    if (c == '"' || c == '\\')
      out += fmt::format("\\{}", c);
    else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    else
      out += c;
  }
  return out + "\"";
}

std::string to_lower(std::string_view text) {
  std::string lower(text);
  std::ranges::transform(lower, lower.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  });
  return lower;
}

bool is_all_digits(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

std::optional<std::uint16_t> parse_port(std::string_view text) {
  if (text == "https") return std::uint16_t{443};
  if (text == "http") return std::uint16_t{80};
  if (!is_all_digits(text)) return std::nullopt;
  std::uint16_t port = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc{}) return std::nullopt;
  return port;
}

/// Host and port as written; the host without its brackets.
struct HostAndPort {
  std::string host;
  std::string port;
};

using Split = std::expected<HostAndPort, std::string>;

std::unexpected<std::string> missing_port(std::string_view ip) {
  const std::string host = is_ipv6(ip) ? fmt::format("[{}]", ip) : std::string(ip);
  // 2001:db8::1:443 is an address as a whole, but hardly meant as one.
  const auto last = std::min(ip.rfind(':'), ip.size());
  if (is_ipv6(ip.substr(0, last)) && is_all_digits(ip.substr(last + 1)))
    return std::unexpected(
        fmt::format("an IPv6 address needs brackets and a port: write [{}]{} or {}:443",
                    ip.substr(0, last), ip.substr(last), host));
  return std::unexpected(fmt::format("the port is missing: write {}:443", host));
}

Split split_brackets(std::string_view text) {
  const auto close = text.find(']');
  if (close == std::string_view::npos)
    return std::unexpected("the closing ] is missing: write it like [2001:db8::1]:443");
  const std::string_view host = text.substr(1, close - 1);
  const std::string_view rest = text.substr(close + 1);
  if (!is_ipv6(host))
    return std::unexpected(
        fmt::format("{} is not an IPv6 address; without brackets an IPv4 "
                    "address is written like 203.0.113.7:443",
                    quoted(host)));
  if (rest.empty()) return missing_port(host);
  if (rest[0] != ':')
    return std::unexpected(fmt::format("a colon belongs behind the ]: write [{}]:443", host));
  return HostAndPort{.host = std::string(host), .port = std::string(rest.substr(1))};
}

Split split(std::string_view text) {
  if (text.empty()) return std::unexpected("it is empty: write :443 for port 443");
  if (text.find("://") != std::string_view::npos)
    return std::unexpected(
        "it is a URL: write only the port like :443, or address and port like 203.0.113.7:443");
  if (text[0] == '[') return split_brackets(text);
  if (is_ip(text)) return missing_port(text);
  const auto colons = std::ranges::count(text, ':');
  if (colons == 0 && text.find('.') == std::string_view::npos)
    return HostAndPort{.host = "", .port = std::string(text)};
  if (colons == 0) return std::unexpected(fmt::format("the port is missing: write {}:443", text));
  const auto last = text.rfind(':');
  const std::string_view host = text.substr(0, last);
  if (colons > 1 && is_ipv6(host))
    return std::unexpected(
        fmt::format("an IPv6 address needs brackets: write [{}]{}", host, text.substr(last)));
  if (colons > 1)
    return std::unexpected(
        "it has a colon too many: write one address and port, like 203.0.113.7:443 or "
        "[2001:db8::1]:443");
  return HostAndPort{.host = std::string(host), .port = std::string(text.substr(last + 1))};
}

/// The host to bind to: empty for all addresses.
std::expected<std::string, std::string> listen_host(std::string_view host) {
  if (host.empty() || host == "*" || host == "0.0.0.0") return std::string();
  if (to_lower(host) == "localhost") return std::string("127.0.0.1");
  if (host.find('%') != std::string_view::npos)
    return std::unexpected(
        "addresses with a zone (%) cannot be listened on: write [::]:443 for "
        "all addresses");
  const auto ip = parse_ip(host);
  if (!ip)
    return std::unexpected(fmt::format(
        "{} is not an IP address of this machine: write its IP address, or only the port like "
        ":443 for all addresses (the name that clients use goes into the host name)",
        quoted(host)));
  return *ip == "::" ? std::string() : *ip;
}

std::string port_problem(std::string_view port) {
  if (port.empty()) return "the port is missing: write it like :443";
  if (is_all_digits(port)) return fmt::format("{} is no port: they go from 0 to 65535", port);
  if (port.find(' ') != std::string_view::npos)
    return "it has a space in it: write one address and port like 203.0.113.7:443";
  if (port.find('/') != std::string_view::npos)
    return "a slash does not belong there: write it like :443";
  return fmt::format("{} is no port: write a number like 443", quoted(port));
}

// --- Host names ---------------------------------------------------------------------------------

bool is_host_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

/// What is wrong with a lower-case host name; empty when nothing is.
std::string hostname_problem(std::string_view name) {
  if (name.empty()) return "it is empty";
  if (name.size() > kHostnameSizeMax)
    return fmt::format("it is longer than {} characters", kHostnameSizeMax);
  std::string_view last_label;
  for (std::size_t at = 0; at <= name.size();) {
    const std::size_t dot = std::min(name.find('.', at), name.size());
    last_label = name.substr(at, dot - at);
    if (last_label.empty()) return "it has a dot too many";
    if (last_label.size() > kLabelSizeMax)
      return fmt::format("\"{}\" is longer than {} characters", last_label, kLabelSizeMax);
    if (!std::ranges::all_of(last_label, is_host_character)) {
      const bool ascii = std::ranges::all_of(
          last_label, [](char c) { return static_cast<unsigned char>(c) < 0x80; });
      return ascii ? fmt::format("\"{}\" has a character that host names cannot have", last_label)
                   : fmt::format("\"{}\" is not ASCII: write the form that begins with xn--",
                                 last_label);
    }
    if (last_label.front() == '-' || last_label.back() == '-')
      return fmt::format("\"{}\" begins or ends with a dash", last_label);
    at = dot + 1;
  }
  if (is_all_digits(last_label)) return "it looks like an IP address and is none";
  return {};
}

std::expected<std::string, std::string> plain_hostname(std::string_view text) {
  const bool bracketed = text.starts_with('[') && text.ends_with(']');
  if (const auto ip = parse_ip(bracketed ? text.substr(1, text.size() - 2) : text)) return *ip;
  std::string lower = to_lower(text);
  if (auto problem = hostname_problem(lower); !problem.empty())
    return std::unexpected(std::move(problem));
  return lower;
}

/// What was probably meant: without scheme, path, port and a dot at the end.
std::string hostname_inside(std::string_view text) {
  std::string inside = repair(text).text;
  if (const auto scheme = inside.find("://"); scheme != std::string::npos)
    inside.erase(0, scheme + 3);
  inside.erase(std::min(inside.find('/'), inside.size()));
  if (std::ranges::count(inside, ':') == 1) inside.erase(inside.find(':'));
  if (const auto bracket = inside.find(']'); bracket != std::string::npos)
    inside.erase(bracket + 1);
  while (inside.ends_with('.')) inside.pop_back();
  if (inside.starts_with("*.")) inside.replace(0, 1, "derp");
  return inside;
}

/// What people paste and should leave out, in words.
std::string pasted_extras(std::string_view text) {
  if (text.find("://") != std::string_view::npos) return "a URL is not a host name";
  if (text.starts_with("*.")) return "a wildcard is for certificates, clients need one name";
  if (text.find('/') != std::string_view::npos) return "a slash does not belong into a host name";
  if (text.find(':') != std::string_view::npos)
    return "the port does not belong into the host name (it is part of the listen address)";
  if (text.ends_with('.')) return "the dot at the end has to go";
  return "quotes, spaces and full-width characters do not belong into a host name";
}

}  // namespace

std::expected<ParsedListenAddress, std::string> parse_listen_address(std::string_view text,
                                                                     std::string_view source) {
  const auto complain = [&](std::string_view problem) {
    return std::unexpected(
        fmt::format("listen address {} ({}): {}", quoted(text), source, problem));
  };
  const Repaired repaired = repair(text);
  const auto parts = split(repaired.text);
  if (!parts) return complain(parts.error());
  const auto port = parse_port(parts->port);
  if (!port) return complain(port_problem(parts->port));
  auto host = listen_host(parts->host);
  if (!host) return complain(host.error());

  ParsedListenAddress parsed{.address = {.host = std::move(*host), .port = *port},
                             .port_is_https = *port == 443,
                             .notice = ""};
  std::vector<std::string> said = repaired.repairs;
  said.push_back(parsed.address.host.empty() ? std::string("listening on all addresses")
                                             : "listening on " + parsed.address.host);
  said.push_back(*port == 0 ? std::string("a port that the system chooses")
                            : fmt::format("port {}", *port));
  parsed.notice =
      fmt::format("listen address {} ({}): {}", quoted(text), source, fmt::join(said, ", "));
  return parsed;
}

std::string to_text(const ListenAddress& address) {
  return is_ipv6(address.host) ? fmt::format("[{}]:{}", address.host, address.port)
                               : fmt::format("{}:{}", address.host, address.port);
}

std::optional<std::string> parse_ip(std::string_view text) {
  const std::string terminated(text);
  std::array<unsigned char, sizeof(in6_addr)> bytes{};
  std::array<char, INET6_ADDRSTRLEN> spelled{};
  for (const int family : {AF_INET, AF_INET6}) {
    if (inet_pton(family, terminated.c_str(), bytes.data()) != 1) continue;
    if (inet_ntop(family, bytes.data(), spelled.data(), spelled.size()) == nullptr) continue;
    return std::string(spelled.data());
  }
  return std::nullopt;
}

bool is_ip(std::string_view text) {
  return parse_ip(text).has_value();
}

bool is_ipv6(std::string_view text) {
  return text.find(':') != std::string_view::npos && is_ip(text);
}

bool is_cidr(std::string_view text) {
  const auto slash = text.find('/');
  if (slash == std::string_view::npos) return false;
  const auto ip = text.substr(0, slash);
  const auto bits_text = text.substr(slash + 1);
  // As Go has it: no leading zeros.
  if (!is_ip(ip) || !is_all_digits(bits_text) || (bits_text.size() > 1 && bits_text[0] == '0'))
    return false;
  unsigned int bits = 0;
  const auto [stop, error] =
      std::from_chars(bits_text.data(), bits_text.data() + bits_text.size(), bits);
  return error == std::errc{} && bits <= (is_ipv6(ip) ? 128U : 32U);
}

std::expected<std::string, std::string> parse_hostname(std::string_view text,
                                                       std::string_view source) {
  auto name = plain_hostname(text);
  if (name) return name;

  const auto complain = [&](const std::string& problem) {
    return std::unexpected(fmt::format("host name {} ({}): {}", quoted(text), source, problem));
  };
  const auto meant = plain_hostname(hostname_inside(text));
  if (meant) return complain(fmt::format("{}: write {}", pasted_extras(text), *meant));
  return complain(name.error() +
                  ": write a name like derp.example.com, or this machine's IP address");
}

}  // namespace detour::config
