#include "admission/reply.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "base/files.h"

namespace detour::admission {
namespace {

constexpr long kOk = 200;
constexpr long kBadRequest = 400;
constexpr long kUnauthorized = 401;
constexpr long kForbidden = 403;
constexpr long kNotFound = 404;
constexpr std::size_t kQuotedMax = 120;

/// The beginning of what a source said, fit for one line of the log.
std::string quoted(std::string_view body) {
  std::string text;
  for (const char c : body.substr(0, kQuotedMax))
    text += c >= 0x20 && c <= 0x7e && c != '"' ? c : ' ';
  const std::size_t end = text.find_last_not_of(' ');
  if (end == std::string::npos) return "nothing";
  return "\"" + text.substr(0, end + 1) + "\"";
}

bool is_allow(std::string_view name) {
  return std::ranges::equal(name, std::string_view("allow"), [](char a, char b) {
    return (a >= 'A' && a <= 'Z' ? static_cast<char>(a + 32) : a) == b;
  });
}

/// Reads `Allow` out of the first JSON value of a text.
class AllowReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  [[nodiscard]] bool allow() const { return allow_; }

  bool null() override { return true; }
  bool boolean(bool value) override {
    if (depth_ == 0) return false;
    if (depth_ == 1 && is_allow_) allow_ = value;
    return true;
  }
  bool number_integer(number_integer_t /*value*/) override { return other(); }
  bool number_unsigned(number_unsigned_t /*value*/) override { return other(); }
  bool number_float(number_float_t /*value*/, const string_t& /*text*/) override { return other(); }
  bool string(string_t& /*value*/) override { return other(); }
  bool binary(binary_t& /*value*/) override { return false; }
  bool start_object(std::size_t /*elements*/) override {
    if (depth_ != 0 && !other()) return false;
    ++depth_;
    return true;
  }
  bool key(string_t& name) override {
    if (depth_ == 1) is_allow_ = is_allow(name);
    return true;
  }
  bool end_object() override {
    --depth_;
    return true;
  }
  bool start_array(std::size_t /*elements*/) override {
    if (!other()) return false;
    ++depth_;
    return true;
  }
  bool end_array() override {
    --depth_;
    return true;
  }
  bool parse_error(std::size_t /*position*/, const std::string& /*token*/,
                   const nlohmann::detail::exception& /*cause*/) override {
    return false;
  }

 private:
  /// A value that is neither true nor false.
  bool other() { return depth_ > 1 || (depth_ == 1 && !is_allow_); }

  int depth_ = 0;
  bool is_allow_ = false;
  bool allow_ = false;
};

}  // namespace

std::string whois_path(const crypto::NodePublic& key) {
  return "/localapi/v0/whois?addr=nodekey%3A" + key.hex();
}

Reply whois_reply(std::string_view socket, long status, std::string_view body) {
  const auto failed = [](std::string reason) {
    return Reply{.answer = Answer::kFailed, .reason = std::move(reason)};
  };
  switch (status) {
    case kOk:
      if (body.starts_with('{') && nlohmann::json::accept(body))
        return {.answer = Answer::kAllowed};
      return failed(fmt::format(
          "tailscaled at {} answered with something that is no JSON object: {}; is that socket "
          "really tailscaled's?",
          socket, quoted(body)));
    case kNotFound:
      return {.answer = Answer::kDenied,
              .reason = fmt::format(
                  "tailscaled at {} does not know this node; it has to be in the same tailnet as "
                  "this machine, and the access rules have to let this machine see it",
                  socket)};
    case kForbidden:
      return failed(fmt::format(
          "tailscaled at {} does not answer {} (403): run the relay as root or as tailscaled's "
          "operator (`tailscale set --operator=NAME`)",
          socket, this_user()));
    case kBadRequest:
      if (body.find("invalid 'addr' parameter") != std::string_view::npos)
        return failed(fmt::format(
            "tailscaled at {} is too old to be asked for a node key; update it to 1.70 or newer",
            socket));
      break;
    default:
      break;
  }
  return failed(
      fmt::format("tailscaled at {} answered with status {}: {}", socket, status, quoted(body)));
}

std::string controller_request(const crypto::NodePublic& key, std::string_view source) {
  return nlohmann::ordered_json{{"NodePublic", key.typed()}, {"Source", source}}.dump();
}

Reply controller_reply(std::string_view url, long status, std::string_view body) {
  body = body.substr(0, kControllerBodyMax);
  if (status == kUnauthorized || status == kForbidden)
    return {.answer = Answer::kFailed,
            .reason = fmt::format(
                "the admission controller {} does not let the relay ask (status {}); look at the "
                "Authorization header that --verify-client-url-auth-file gives",
                url, status)};
  if (status != kOk)
    return {.answer = Answer::kFailed,
            .reason = fmt::format("the admission controller {} answered with status {}: {}", url,
                                  status, quoted(body))};
  AllowReader reader;
  if (!nlohmann::json::sax_parse(body.begin(), body.end(), &reader,
                                 nlohmann::json::input_format_t::json, /*strict=*/false))
    return {.answer = Answer::kFailed,
            .reason = fmt::format("the admission controller {} answered {}, and {} or {} is needed "
                                  "within the first {} bytes",
                                  url, quoted(body), R"({"Allow":true})", R"({"Allow":false})",
                                  kControllerBodyMax)};
  if (reader.allow()) return {.answer = Answer::kAllowed};
  return {.answer = Answer::kDenied,
          .reason = fmt::format("the admission controller {} does not allow this node", url)};
}

Reply socket_failure(std::string_view socket, int error) {
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return {.answer = Answer::kUnreachable,
              .reason = fmt::format("there is no socket {}: start tailscaled, or say where its "
                                    "socket is (-socket)",
                                    socket)};
    case EACCES:
    case EPERM:
      return {.answer = Answer::kUnreachable,
              .reason = fmt::format("{} may not open the socket {}: run the relay as root or as "
                                    "tailscaled's user, or open the folders in that path",
                                    this_user(), socket)};
    case ECONNREFUSED:
    case ENOTSOCK:
      return {.answer = Answer::kUnreachable,
              .reason = fmt::format(
                  "nobody listens on {}: tailscaled is not running; or, in a container, mount the "
                  "folder and not the socket, since a restarted tailscaled makes a new one",
                  socket)};
    default:
      return {.answer = Answer::kUnreachable,
              .reason = fmt::format("tailscaled at {} cannot be asked: {}", socket,
                                    std::generic_category().message(error))};
  }
}

}  // namespace detour::admission
