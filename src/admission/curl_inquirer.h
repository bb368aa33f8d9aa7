#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "admission/reply.h"
#include "base/clock.h"
#include "crypto/keys.h"

namespace detour::admission {

/// One place to ask.
struct Source {
  SourceKind kind = SourceKind::kTailscaled;
  std::string where;  ///< Path of the socket, or URL.
};

/// Asks tailscaleds and admission controllers over HTTP, many at a time on one thread (libcurl's
/// multi interface). Sockets of tailscaled are opened anew for each question, so a restarted
/// tailscaled is never a problem; connections to controllers are kept.
///
/// Proxies, certificates and redirects as in Go: HTTP_PROXY, HTTPS_PROXY and NO_PROXY (never for
/// this machine), SSL_CERT_FILE and SSL_CERT_DIR, 303 and friends.
class CurlInquirer {
 public:
  struct Answered {
    std::uint64_t id = 0;
    SourceKind kind = SourceKind::kTailscaled;
    std::string where;
    Reply reply;
    Duration took{};
  };

  /// `user_agent` is what the relay calls itself. Aborts when the library cannot be used.
  explicit CurlInquirer(std::string user_agent);
  /// Lets go of all questions; never waits for an answer.
  ~CurlInquirer();
  CurlInquirer(const CurlInquirer&) = delete;
  CurlInquirer& operator=(const CurlInquirer&) = delete;

  /// Begins to ask. `authorization` becomes that header for controllers; empty sends none.
  void ask(std::uint64_t id, const Source& source, const crypto::NodePublic& key,
           const std::string& client_address, const std::string& authorization);
  /// Goes on for at most `timeout`, less when something was answered or wake() was called.
  [[nodiscard]] std::vector<Answered> run(Duration timeout);
  /// Ends a run(), the current one or the next; any thread.
  void wake();

  /// How a URL cannot be used, with what to write instead; empty when it can.
  [[nodiscard]] static std::string fault_of_url(const std::string& url);

 private:
  class Query;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Where tailscaled's socket is on this machine when nothing else is said: the first of the usual
/// places that exists.
[[nodiscard]] std::string default_tailscaled_socket();

}  // namespace detour::admission
