#include "doctor/target.h"

#include <fmt/format.h>

#include <charconv>

#include "config/address.h"

namespace detour::doctor {
namespace {

/// A stray character that people paste, and its name.
std::string_view stray_character(std::string_view text) {
  if (text.find_first_of("\"'`") != std::string_view::npos) return "a quote character";
  for (const std::string_view quote : {"\u201c", "\u201d", "\u2018", "\u2019"}) {
    if (text.find(quote) != std::string_view::npos) return "a typographic quote";
  }
  if (text.find("\uff1a") != std::string_view::npos) return "a full-width colon";
  if (text.find_first_of(" \t\r\n") != std::string_view::npos) return "a blank";
  return {};
}

}  // namespace

bool Target::host_is_ip() const {
  return config::is_ip(host);
}

std::string Target::host_header() const {
  std::string header = host.find(':') == std::string::npos ? host : fmt::format("[{}]", host);
  if (port != (use_tls ? 443 : 80)) header += fmt::format(":{}", port);
  return header;
}

std::expected<Target, std::string> parse_target(std::string_view text) {
  const auto wrong = [whole = text](std::string what) {
    return std::unexpected(fmt::format("\"{}\": {}", whole, what));
  };
  if (const auto stray = stray_character(text); !stray.empty())
    return wrong(
        fmt::format("it contains {}; write https://HOST:PORT, without quotes and blanks", stray));
  Target target;
  if (text.starts_with("https://")) {
    text.remove_prefix(8);
  } else if (text.starts_with("http://")) {
    text.remove_prefix(7);
    target.use_tls = false;
    target.port = 80;
  } else if (text.find("://") != std::string_view::npos) {
    return wrong("begin with https://, or with http:// for a relay without TLS");
  }
  if (const auto slash = text.find('/'); slash != std::string_view::npos) {
    const auto path = text.substr(slash);
    if (path != "/" && path != "/derp")
      return wrong(fmt::format("leave \"{}\" out, relays answer at /derp only", path));
    text = text.substr(0, slash);
  }
  std::string_view port;
  bool has_port = false;
  if (text.starts_with('[')) {
    const auto end = text.find(']');
    if (end == std::string_view::npos) return wrong("the bracket behind the address is missing");
    target.host = text.substr(1, end - 1);
    const auto rest = text.substr(end + 1);
    if (!rest.empty() && rest[0] != ':')
      return wrong(fmt::format("\"{}\" follows the address in brackets", rest));
    has_port = !rest.empty();
    if (has_port) port = rest.substr(1);
  } else if (text.find(':') == text.rfind(':') && text.find(':') != std::string_view::npos) {
    has_port = true;
    target.host = text.substr(0, text.find(':'));
    port = text.substr(text.find(':') + 1);
  } else {
    target.host = text;  // A name, or an IPv6 address without port.
  }
  auto host = config::parse_hostname(target.host, "the address");
  if (!host) return std::unexpected(host.error());
  target.host = *host;
  if (has_port) {
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), target.port);
    if (error != std::errc{} || end != port.data() + port.size() || target.port == 0)
      return wrong(fmt::format("\"{}\" is no port; write one from 1 to 65535", port));
  }
  target.title = fmt::format("{}://{}", target.use_tls ? "https" : "http", target.host_header());
  return target;
}

}  // namespace detour::doctor
