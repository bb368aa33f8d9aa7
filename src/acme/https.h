#pragma once

#include <chrono>
#include <cstddef>
#include <expected>
#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>

/// HTTPS requests to a certificate authority. Blocks; for the control thread only.
namespace detour::acme {

/// A whole exchange may take this long; connecting alone kHttpsConnectTimeout.
inline constexpr std::chrono::seconds kHttpsTimeout{45};
inline constexpr std::chrono::seconds kHttpsConnectTimeout{15};
/// Far more than any certificate chain or list of an authority.
inline constexpr std::size_t kHttpsReplyMax = 1024 * 1024;

struct HttpsRequest {
  std::string method;  ///< GET, HEAD or POST.
  std::string url;
  std::string body = {};
  std::string content_type = {};
};

struct HttpsReply {
  long status = 0;
  std::map<std::string, std::string, std::less<>> headers;  ///< Names in lower case.
  std::string body;

  /// Empty when there is none.
  [[nodiscard]] std::string_view header(std::string_view lower_case_name) const;
};

/// Sends requests one at a time. Tests have their own.
class Https {
 public:
  virtual ~Https() = default;

  /// Fails, with a text for the operator, when no whole reply came.
  [[nodiscard]] virtual std::expected<HttpsReply, std::string> send(
      const HttpsRequest& request) = 0;

 protected:
  Https() = default;
  Https(const Https&) = default;
  Https& operator=(const Https&) = default;
};

struct HttpsSettings {
  /// PEM of the authorities that the server's certificate may come from. Empty: the system's.
  std::string ca_file;
  std::string user_agent;
  std::string ca_file_setting = "--acme-ca-file";  ///< How messages name it.
};

/// By libcurl: TLS 1.2 and up, the server's certificate is checked, proxies as the environment
/// names them (https_proxy). Keeps its connection between requests. A stop request ends what is
/// under way.
[[nodiscard]] std::unique_ptr<Https> make_https(HttpsSettings settings, std::stop_token stop);

}  // namespace detour::acme
