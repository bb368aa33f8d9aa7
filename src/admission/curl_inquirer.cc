#include "admission/curl_inquirer.h"

#include <curl/curl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <string_view>
#include <utility>

#include "base/check.h"
#include "base/variable.h"

namespace detour::admission {
namespace {

using std::chrono::duration_cast;
using std::chrono::milliseconds;

/// Go gives up at the tenth redirect.
constexpr long kRedirectsMax = 9;
/// Idle connections that are kept open to controllers.
constexpr long kConnectionsKept = 16;

struct ProxySettings {
  std::string http = variable({"HTTP_PROXY", "http_proxy"});
  std::string https = variable({"HTTPS_PROXY", "https_proxy"});
  /// Go never sends requests to this machine through a proxy.
  std::string none = "localhost,127.0.0.0/8,::1";

  ProxySettings() {
    const std::string set = variable({"NO_PROXY", "no_proxy"});
    if (set == "*") {
      none = set;
    } else if (!set.empty()) {
      none += "," + set;
    }
  }
};

/// Whether somebody listens on a socket: 0, or errno.
int try_socket(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return ENAMETOOLONG;
  std::memcpy(address.sun_path, path.data(), path.size());
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return errno;
  const int result = ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
  const int error = result == 0 ? 0 : errno;
  ::close(fd);
  return error;
}

void init_library() {
  static std::once_flag once;
  std::call_once(once, [] { DETOUR_CHECK(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK); });
}

}  // namespace

/// One question under way.
class CurlInquirer::Query {
 public:
  Query(std::uint64_t id, Source source) : id_(id), source_(std::move(source)) {}
  Query(const Query&) = delete;
  Query& operator=(const Query&) = delete;
  ~Query() {
    if (easy_ != nullptr) curl_easy_cleanup(easy_);
    curl_slist_free_all(headers_);
  }

  [[nodiscard]] CURL* easy() const { return easy_; }

  void prepare_common(const std::string& user_agent) {
    easy_ = curl_easy_init();
    DETOUR_CHECK(easy_ != nullptr);
    set(CURLOPT_PRIVATE, static_cast<void*>(this));
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_USERAGENT, user_agent.c_str());
    set(CURLOPT_ERRORBUFFER, error_.data());
    set(CURLOPT_WRITEFUNCTION, &Query::take_body);
    set(CURLOPT_WRITEDATA, static_cast<void*>(this));
    // Ending does not wait for a resolver that nobody answers.
    set(CURLOPT_QUICK_EXIT, 1L);
    // Headers that curl adds on its own.
    add_header("Accept:");
    add_header("Expect:");
  }

  void prepare_tailscaled(const crypto::NodePublic& key) {
    body_max_ = kWhoisBodyMax;
    url_ = "http://local-tailscaled.sock" + whois_path(key);
    set(CURLOPT_URL, url_.c_str());
    set(CURLOPT_UNIX_SOCKET_PATH, source_.where.c_str());
    set(CURLOPT_PROXY, "");
    set(CURLOPT_FRESH_CONNECT, 1L);
    set(CURLOPT_FORBID_REUSE, 1L);
    set_timeout(kTailscaledTimeout);
    // The protocol that the path is part of.
    add_header("Tailscale-Cap: 145");
    set(CURLOPT_HTTPHEADER, headers_);
  }

  void prepare_controller(const crypto::NodePublic& key, const std::string& client_address,
                          const std::string& authorization, const ProxySettings& proxies) {
    body_max_ = kControllerBodyMax;
    url_ = source_.where;
    request_ = controller_request(key, client_address);
    set(CURLOPT_URL, url_.c_str());
    set(CURLOPT_POSTFIELDSIZE, static_cast<long>(request_.size()));
    set(CURLOPT_POSTFIELDS, request_.c_str());
    set(CURLOPT_FOLLOWLOCATION, 1L);
    set(CURLOPT_MAXREDIRS, kRedirectsMax);
    set(CURLOPT_PROTOCOLS_STR, "http,https");
    set(CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    set(CURLOPT_PROXY, (url_.starts_with("https") ? proxies.https : proxies.http).c_str());
    set(CURLOPT_NOPROXY, proxies.none.c_str());
    set_timeout(kControllerTimeout);
    const std::string ca_file = variable({"SSL_CERT_FILE"});
    if (!ca_file.empty()) set(CURLOPT_CAINFO, ca_file.c_str());
    const std::string ca_path = variable({"SSL_CERT_DIR"});
    if (!ca_path.empty()) set(CURLOPT_CAPATH, ca_path.c_str());
    // derper sends no type either.
    add_header("Content-Type:");
    if (!authorization.empty()) add_header("Authorization: " + authorization);
    set(CURLOPT_HTTPHEADER, headers_);
  }

  [[nodiscard]] Answered answer(CURLcode code) {
    Answered answered{
        .id = id_, .kind = source_.kind, .where = source_.where, .reply = {}, .took = {}};
    curl_off_t microseconds = 0;
    curl_easy_getinfo(easy_, CURLINFO_TOTAL_TIME_T, &microseconds);
    answered.took = std::chrono::microseconds(microseconds);
    // More than is looked at came; what is looked at is there.
    if (code == CURLE_WRITE_ERROR && body_.size() == body_max_) code = CURLE_OK;
    answered.reply = code == CURLE_OK || has_responded() ? understand() : failure(code);
    return answered;
  }

 private:
  template <typename Value>
  void set(CURLoption option, Value value) {
    // An option that is refused is one that this libcurl does not have: the program was built for
    // another one.
    DETOUR_CHECK(curl_easy_setopt(easy_, option, value) == CURLE_OK);
  }
  void set_timeout(Duration timeout) {
    set(CURLOPT_TIMEOUT_MS, static_cast<long>(duration_cast<milliseconds>(timeout).count()));
  }
  void add_header(const std::string& header) {
    headers_ = curl_slist_append(headers_, header.c_str());
  }

  static std::size_t take_body(const char* bytes, std::size_t size, std::size_t count,
                               void* query) {
    Query& self = *static_cast<Query*>(query);
    const std::size_t room = self.body_max_ - self.body_.size();
    self.body_.append(bytes, std::min(room, size * count));
    return size * count <= room ? size * count : CURL_WRITEFUNC_ERROR;
  }

  /// Whether a controller's response began, though its body did not end: Go counts that as an
  /// answer, and reads no further than the JSON goes. A redirect that led nowhere is none.
  [[nodiscard]] bool has_responded() {
    long status = 0;
    curl_easy_getinfo(easy_, CURLINFO_RESPONSE_CODE, &status);
    return source_.kind == SourceKind::kUrl && status >= 200 && (status < 300 || status >= 400);
  }

  [[nodiscard]] Reply understand() {
    long status = 0;
    curl_easy_getinfo(easy_, CURLINFO_RESPONSE_CODE, &status);
    return source_.kind == SourceKind::kTailscaled ? whois_reply(source_.where, status, body_)
                                                   : controller_reply(url_, status, body_);
  }

  [[nodiscard]] Reply failure(CURLcode code) {
    const bool timed_out = code == CURLE_OPERATION_TIMEDOUT;
    if (source_.kind == SourceKind::kTailscaled) {
      if (const int error = timed_out ? 0 : try_socket(source_.where); error != 0)
        return socket_failure(source_.where, error);
      if (timed_out)
        return {
            .answer = Answer::kUnreachable,
            .reason = fmt::format("tailscaled at {} did not answer within {} s; is it overloaded "
                                  "or stopped?",
                                  source_.where, seconds_of(kTailscaledTimeout))};
      return {.answer = Answer::kUnreachable,
              .reason = fmt::format("tailscaled at {} cannot be asked: {}", source_.where,
                                    text_of(code))};
    }
    if (timed_out)
      return {.answer = Answer::kUnreachable,
              .reason = fmt::format("the admission controller {} did not answer within {} s", url_,
                                    seconds_of(kControllerTimeout))};
    return {.answer = Answer::kUnreachable,
            .reason = fmt::format("the admission controller {} cannot be asked: {}{}", url_,
                                  text_of(code), advice(code))};
  }
  static long seconds_of(Duration duration) {
    return duration_cast<std::chrono::seconds>(duration).count();
  }
  [[nodiscard]] std::string text_of(CURLcode code) const {
    return error_[0] != '\0' ? error_.data() : curl_easy_strerror(code);
  }
  static std::string_view advice(CURLcode code) {
    switch (code) {
      case CURLE_COULDNT_RESOLVE_HOST:
        return "; look at the name in --verify-client-url and at this machine's DNS";
      case CURLE_COULDNT_RESOLVE_PROXY:
        return "; look at HTTPS_PROXY and HTTP_PROXY in the relay's environment";
      case CURLE_COULDNT_CONNECT:
        return "; is it running, and does a firewall let this machine through?";
      case CURLE_PEER_FAILED_VERIFICATION:
        return "; a private CA goes into SSL_CERT_FILE in the relay's environment";
      default:
        return "";
    }
  }

  const std::uint64_t id_;
  const Source source_;
  CURL* easy_ = nullptr;
  curl_slist* headers_ = nullptr;
  std::string url_;
  std::string request_;
  std::string body_;
  std::size_t body_max_ = 0;
  std::array<char, CURL_ERROR_SIZE> error_{};
};

struct CurlInquirer::Impl {
  std::string user_agent;
  ProxySettings proxies{};
  CURLM* multi = nullptr;
  std::vector<std::unique_ptr<Query>> queries{};
};

CurlInquirer::CurlInquirer(std::string user_agent) {
  init_library();
  impl_ = std::make_unique<Impl>(Impl{.user_agent = std::move(user_agent)});
  impl_->multi = curl_multi_init();
  DETOUR_CHECK(impl_->multi != nullptr);
  curl_multi_setopt(impl_->multi, CURLMOPT_MAXCONNECTS, kConnectionsKept);
}

CurlInquirer::~CurlInquirer() {
  for (const auto& query : impl_->queries) curl_multi_remove_handle(impl_->multi, query->easy());
  impl_->queries.clear();
  curl_multi_cleanup(impl_->multi);
}

void CurlInquirer::ask(std::uint64_t id, const Source& source, const crypto::NodePublic& key,
                       const std::string& client_address, const std::string& authorization) {
  auto query = std::make_unique<Query>(id, source);
  query->prepare_common(impl_->user_agent);
  if (source.kind == SourceKind::kTailscaled) {
    query->prepare_tailscaled(key);
  } else {
    query->prepare_controller(key, client_address, authorization, impl_->proxies);
  }
  DETOUR_CHECK(curl_multi_add_handle(impl_->multi, query->easy()) == CURLM_OK);
  impl_->queries.push_back(std::move(query));
}

std::vector<CurlInquirer::Answered> CurlInquirer::run(Duration timeout) {
  std::vector<Answered> answered;
  int running = 0;
  curl_multi_perform(impl_->multi, &running);
  const auto collect = [&] {
    int left = 0;
    while (const CURLMsg* const message = curl_multi_info_read(impl_->multi, &left)) {
      if (message->msg != CURLMSG_DONE) continue;
      CURL* const easy = message->easy_handle;
      const CURLcode code = message->data.result;
      const auto it = std::ranges::find(impl_->queries, easy, &Query::easy);
      answered.push_back((*it)->answer(code));
      curl_multi_remove_handle(impl_->multi, easy);
      impl_->queries.erase(it);
    }
  };
  collect();
  if (!answered.empty()) return answered;
  const auto wait = std::clamp<std::int64_t>(std::chrono::ceil<milliseconds>(timeout).count(), 0,
                                             milliseconds(60'000).count());
  curl_multi_poll(impl_->multi, nullptr, 0, static_cast<int>(wait), nullptr);
  curl_multi_perform(impl_->multi, &running);
  collect();
  return answered;
}

void CurlInquirer::wake() {
  curl_multi_wakeup(impl_->multi);
}

std::string CurlInquirer::fault_of_url(const std::string& url) {
  if (!url.starts_with("http://") && !url.starts_with("https://"))
    return fmt::format("admission URL {:?}: write it with http:// or https:// in front", url);
  const std::unique_ptr<CURLU, decltype(&curl_url_cleanup)> parsed(curl_url(), &curl_url_cleanup);
  if (curl_url_set(parsed.get(), CURLUPART_URL, url.c_str(), 0) != CURLUE_OK)
    return fmt::format(
        "admission URL {:?}: is not a URL; write for example "
        "https://control.example.com/verify",
        url);
  return {};
}

std::string default_tailscaled_socket() {
  // Linux; Synology with DSM 7 and 6; Gokrazy.
  constexpr std::array<std::string_view, 4> kPlaces = {
      "/var/run/tailscale/tailscaled.sock", "/var/packages/Tailscale/var/tailscaled.sock",
      "/var/packages/Tailscale/etc/tailscaled.sock", "/perm/tailscaled/tailscaled.sock"};
  std::error_code ignored;
  for (const std::string_view place : kPlaces) {
    if (std::filesystem::exists(place, ignored)) return std::string(place);
  }
  return std::string(kPlaces.front());
}

}  // namespace detour::admission
