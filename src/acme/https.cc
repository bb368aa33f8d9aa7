#include "acme/https.h"

#include <curl/curl.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <utility>

#include "base/variable.h"

namespace detour::acme {
namespace {

struct EasyDeleter {
  void operator()(CURL* handle) const { curl_easy_cleanup(handle); }
};
struct MultiDeleter {
  void operator()(CURLM* handle) const { curl_multi_cleanup(handle); }
};
struct ListDeleter {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
using EasyPtr = std::unique_ptr<CURL, EasyDeleter>;
using MultiPtr = std::unique_ptr<CURLM, MultiDeleter>;
using ListPtr = std::unique_ptr<curl_slist, ListDeleter>;

constexpr std::size_t kHeadersMax = 100;

void trim(std::string_view& text) {
  constexpr std::string_view kBlank = " \t\r\n";
  text.remove_prefix(std::min(text.find_first_not_of(kBlank), text.size()));
  text = text.substr(0, text.find_last_not_of(kBlank) + 1);
}

/// Returns less than `count` when the reply is too large, which makes libcurl give up.
std::size_t take_body(char* data, std::size_t /*one*/, std::size_t count, void* target) {
  auto& body = static_cast<HttpsReply*>(target)->body;
  if (body.size() + count > kHttpsReplyMax) return 0;
  body.append(data, count);
  return count;
}

std::size_t take_header(char* data, std::size_t /*one*/, std::size_t count, void* target) {
  auto& headers = static_cast<HttpsReply*>(target)->headers;
  const std::string_view line(data, count);
  // A new status line: what came before belongs to a proxy or an interim reply.
  if (line.starts_with("HTTP/")) headers.clear();
  const auto colon = line.find(':');
  if (colon == std::string_view::npos || headers.size() >= kHeadersMax) return count;
  std::string name(line.substr(0, colon));
  std::ranges::transform(name, name.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  std::string_view value = line.substr(colon + 1);
  trim(value);
  headers.insert_or_assign(std::move(name), std::string(value));
  return count;
}

class CurlHttps final : public Https {
 public:
  CurlHttps(HttpsSettings settings, std::stop_token stop)
      : settings_(std::move(settings)), stop_(std::move(stop)), multi_(curl_multi_init()) {}

  std::expected<HttpsReply, std::string> send(const HttpsRequest& request) override {
    const EasyPtr easy(curl_easy_init());
    if (!easy || !multi_) return std::unexpected("libcurl cannot be used: out of memory");
    HttpsReply reply;
    std::array<char, CURL_ERROR_SIZE> error{};
    const ListPtr headers = set_up(easy.get(), request, reply, error.data());
    const CURLcode result = perform(easy.get());
    if (stop_.stop_requested()) return std::unexpected("the relay is stopping");
    if (result != CURLE_OK) return std::unexpected(explain(result, request.url, error.data()));
    curl_easy_getinfo(easy.get(), CURLINFO_RESPONSE_CODE, &reply.status);
    return reply;
  }

 private:
  /// The list has to live as long as the transfer.
  ListPtr set_up(CURL* easy, const HttpsRequest& request, HttpsReply& reply, char* error) const {
    const auto milliseconds = [](std::chrono::milliseconds duration) {
      return static_cast<long>(duration.count());
    };
    curl_easy_setopt(easy, CURLOPT_URL, request.url.c_str());
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "https");
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, milliseconds(kHttpsTimeout));
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, milliseconds(kHttpsConnectTimeout));
    curl_easy_setopt(easy, CURLOPT_USERAGENT, settings_.user_agent.c_str());
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, error);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, &reply);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, &reply);
    if (!settings_.ca_file.empty()) {
      curl_easy_setopt(easy, CURLOPT_CAINFO, settings_.ca_file.c_str());
    } else {
      // libcurl has a path of its own built in; other programs, and the rest of this one, follow
      // OpenSSL's variables.
      if (const auto file = variable({"SSL_CERT_FILE"}); !file.empty())
        curl_easy_setopt(easy, CURLOPT_CAINFO, file.c_str());
      if (const auto folder = variable({"SSL_CERT_DIR"}); !folder.empty())
        curl_easy_setopt(easy, CURLOPT_CAPATH, folder.c_str());
    }
    if (request.method == "HEAD") curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    ListPtr headers;
    if (request.method == "POST") {
      curl_easy_setopt(easy, CURLOPT_POST, 1L);
      curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, static_cast<long>(request.body.size()));
      curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request.body.c_str());
      headers.reset(curl_slist_append(
          nullptr, fmt::format("Content-Type: {}", request.content_type).c_str()));
      curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers.get());
    }
    return headers;
  }

  CURLcode perform(CURL* easy) {
    CURLM* const multi = multi_.get();
    if (curl_multi_add_handle(multi, easy) != CURLM_OK) return CURLE_OUT_OF_MEMORY;
    const std::stop_callback wake(stop_, [multi] { curl_multi_wakeup(multi); });
    CURLcode result = CURLE_ABORTED_BY_CALLBACK;
    int running = 1;
    while (running != 0 && !stop_.stop_requested()) {
      if (curl_multi_perform(multi, &running) != CURLM_OK) break;
      int left = 0;
      while (const CURLMsg* message = curl_multi_info_read(multi, &left))
        if (message->msg == CURLMSG_DONE) result = message->data.result;
      constexpr int kPollMs = 1000;
      if (running != 0 && curl_multi_poll(multi, nullptr, 0, kPollMs, nullptr) != CURLM_OK) break;
    }
    curl_multi_remove_handle(multi, easy);
    return result;
  }

  [[nodiscard]] std::string explain(CURLcode result, const std::string& url,
                                    std::string_view detail) const {
    std::string what =
        fmt::format("{}: {}", url, detail.empty() ? curl_easy_strerror(result) : detail);
    switch (result) {
      case CURLE_COULDNT_RESOLVE_HOST:
        return what + "; check the name, and that this machine can use DNS (/etc/resolv.conf)";
      case CURLE_COULDNT_CONNECT:
        return what + "; check that this machine may make connections to the outside";
      case CURLE_OPERATION_TIMEDOUT:
        return what +
               "; check that this machine may make connections to the outside, and the "
               "authority's status page";
      case CURLE_PEER_FAILED_VERIFICATION:
      case CURLE_SSL_CACERT_BADFILE:
      case CURLE_SSL_ISSUER_ERROR:
        return settings_.ca_file.empty()
                   ? fmt::format(
                         "{}; install this machine's trusted roots (Debian: "
                         "ca-certificates), or for a private authority name its root with {}",
                         what, settings_.ca_file_setting)
                   : fmt::format(
                         "{}; {} has to hold the root that the authority's own HTTPS "
                         "certificate comes from ({})",
                         what, settings_.ca_file, settings_.ca_file_setting);
      case CURLE_UNSUPPORTED_PROTOCOL:
        return what + "; an authority is reached by https:// only";
      case CURLE_WRITE_ERROR:
        return fmt::format("{}: answers with more than {} KiB, so it is no ACME server", url,
                           kHttpsReplyMax / 1024);
      default:
        return what;
    }
  }

  const HttpsSettings settings_;
  const std::stop_token stop_;
  const MultiPtr multi_;
};

}  // namespace

std::string_view HttpsReply::header(std::string_view lower_case_name) const {
  const auto found = headers.find(lower_case_name);
  return found == headers.end() ? std::string_view() : std::string_view(found->second);
}

std::unique_ptr<Https> make_https(HttpsSettings settings, std::stop_token stop) {
  return std::make_unique<CurlHttps>(std::move(settings), std::move(stop));
}

}  // namespace detour::acme
