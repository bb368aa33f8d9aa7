#include "admin/pages.h"

#include <fmt/format.h>

namespace detour::admin {

std::string escape_html(std::string_view text) {
  std::string escaped;
  escaped.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&#34;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

std::string render_home_page(bool derp_enabled, bool link_debug) {
  std::string page =
      "<!DOCTYPE html>\n"
      "<html lang=\"en\"><head><title>DERP</title></head><body>\n"
      "<h1>DERP</h1>\n"
      "<p>This is a DERP server for <a href=\"https://tailscale.com/\">Tailscale</a> clients, "
      "run by Detour.</p>\n"
      "<p>It answers STUN requests and relays packets between devices that cannot reach each other "
      "directly. The packets are encrypted from device to device; this server cannot read "
      "them.</p>\n";
  if (!derp_enabled) page += "<p>Status: <b>disabled</b>. It does not relay at present.</p>\n";
  page +=
      "<p>More about <a href=\"https://tailscale.com/kb/1232/derp-servers\">DERP "
      "servers</a>.</p>\n";
  if (link_debug) page += "<p>Debug pages: <a href=\"/debug/\">/debug/</a></p>\n";
  return page + "</body></html>\n";
}

std::string render_debug_index(const DebugFacts& facts) {
  std::string page =
      "<!DOCTYPE html>\n"
      "<html lang=\"en\"><head><title>Detour debug</title></head><body>\n"
      "<h1>Detour debug</h1>\n"
      "<ul>\n";
  const auto add_fact = [&page](std::string_view name, std::string_view value) {
    page += fmt::format("<li><b>{}:</b> {}</li>\n", name, escape_html(value));
  };
  add_fact("Uptime", format_duration(facts.uptime));
  add_fact("Version", facts.version);
  add_fact("Machine", facts.machine);
  if (!facts.hostname.empty()) add_fact("TLS hostname", facts.hostname);
  add_fact("Mesh key", facts.has_mesh_key ? "true" : "false");
  page +=
      "<li><a href=\"/debug/vars\">/debug/vars</a> (metrics as JSON)</li>\n"
      "<li><a href=\"/debug/varz\">/debug/varz</a> (metrics for Prometheus)</li>\n"
      "<li><a href=\"/debug/check\">/debug/check</a> (consistency check)</li>\n"
      "<li><a href=\"/debug/clients/\">/debug/clients/</a> (connected clients)</li>\n"
      "<li><a href=\"/debug/traffic\">/debug/traffic</a> (traffic of each client, until you "
      "stop it)</li>\n"
      "</ul>\n";
  return page + "</body></html>\n";
}

std::string format_duration(std::chrono::seconds duration) {
  const std::chrono::hh_mm_ss parts(duration);
  const auto hours = parts.hours().count();
  const auto minutes = parts.minutes().count();
  const auto seconds = parts.seconds().count();
  if (hours > 0) return fmt::format("{}h{}m{}s", hours, minutes, seconds);
  if (minutes > 0) return fmt::format("{}m{}s", minutes, seconds);
  return fmt::format("{}s", seconds);
}

}  // namespace detour::admin
