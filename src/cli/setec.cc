#include "cli/setec.h"

#include <curl/curl.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <ctime>
#include <filesystem>
#include <memory>
#include <thread>
#include <utility>

#include "acme/encoding.h"
#include "base/files.h"
#include "base/variable.h"

namespace detour::cli {
namespace {

using nlohmann::json;

/// One question; and how long to go on asking when there is nothing in the cache.
constexpr std::chrono::seconds kSetecTimeout{10};
constexpr std::chrono::seconds kSetecPatience{30};
constexpr std::chrono::milliseconds kPauseMin{250};
constexpr std::chrono::seconds kPauseMax{4};
constexpr std::size_t kAnswerMax = 64 * 1024;
constexpr std::size_t kCacheFileMax = 1024 * 1024;
constexpr mode_t kCacheFileMode = 0600;
constexpr mode_t kCacheFolderMode = 0700;

constexpr long kOk = 200;
constexpr long kNotModified = 304;
constexpr long kForbidden = 403;
constexpr long kNotFound = 404;

json parse(std::string_view text) {
  return json::parse(text, nullptr, /*allow_exceptions=*/false);
}

/// `{"Value":"<base64>","Version":1}`: setec's api.SecretValue.
std::optional<Secret> read_value(const json& object) {
  if (!object.is_object()) return std::nullopt;
  const auto value = object.find("Value");
  const auto version = object.find("Version");
  if (value == object.end() || !value->is_string() || version == object.end() ||
      !version->is_number_unsigned())
    return std::nullopt;
  const auto bytes = acme::decode_base64(value->get_ref<const std::string&>());
  const auto number = version->get<std::uint64_t>();
  if (!bytes || number == 0 || number > UINT32_MAX) return std::nullopt;
  return Secret{.value = std::string(bytes->begin(), bytes->end()),
                .version = static_cast<std::uint32_t>(number)};
}

std::string base64(std::string_view text) {
  std::string encoded((text.size() + 2) / 3 * 4 + 1, '\0');
  const int size = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(encoded.data()),
                                   reinterpret_cast<const unsigned char*>(text.data()),
                                   static_cast<int>(text.size()));
  encoded.resize(static_cast<std::size_t>(size));
  return encoded;
}

// --- The question

struct Answer {
  long status = 0;
  std::string body;
};

std::size_t take_body(char* data, std::size_t one, std::size_t size, void* to) {
  auto& body = static_cast<Answer*>(to)->body;
  if (body.size() + one * size > kAnswerMax) return 0;
  body.append(data, one * size);
  return one * size;
}

std::expected<Answer, std::string> post(const std::string& url, const std::string& body) {
  const std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> easy(curl_easy_init(),
                                                                 curl_easy_cleanup);
  if (!easy) return std::unexpected("libcurl cannot be used: out of memory");
  Answer answer;
  std::array<char, CURL_ERROR_SIZE> error{};
  CURL* const handle = easy.get();
  std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)> headers(
      curl_slist_append(nullptr, "Content-Type: application/json"), curl_slist_free_all);
  // The server takes requests with it alone: no page in a browser can send it.
  curl_slist_append(headers.get(), "Sec-X-Tailscale-No-Browsers: setec");
  curl_easy_setopt(handle, CURLOPT_URL, url.c_str());
  curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(handle, CURLOPT_TIMEOUT, static_cast<long>(kSetecTimeout.count()));
  curl_easy_setopt(handle, CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(handle, CURLOPT_POST, 1L);
  curl_easy_setopt(handle, CURLOPT_POSTFIELDSIZE, static_cast<long>(body.size()));
  curl_easy_setopt(handle, CURLOPT_POSTFIELDS, body.c_str());
  curl_easy_setopt(handle, CURLOPT_ERRORBUFFER, error.data());
  curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, take_body);
  curl_easy_setopt(handle, CURLOPT_WRITEDATA, &answer);
  // As for every other certificate that this program checks, and as Go does it.
  if (const auto file = variable({"SSL_CERT_FILE"}); !file.empty())
    curl_easy_setopt(handle, CURLOPT_CAINFO, file.c_str());
  if (const auto folder = variable({"SSL_CERT_DIR"}); !folder.empty())
    curl_easy_setopt(handle, CURLOPT_CAPATH, folder.c_str());
  if (const CURLcode result = curl_easy_perform(handle); result != CURLE_OK)
    return std::unexpected(error[0] != '\0' ? error.data() : curl_easy_strerror(result));
  curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &answer.status);
  return answer;
}

/// What one question came to.
struct Asked {
  std::optional<Secret> secret{};
  bool unchanged = false;  ///< The known version is the active one.
  bool final = false;      ///< Asking again would change nothing.
  std::string problem{};
};

Asked ask(const SetecSource& source, std::uint32_t known_version) {
  std::string url = source.url;
  if (url.ends_with('/')) url.pop_back();
  const auto answer = post(url + "/api/get", setec_request(source.name, known_version));
  if (!answer) return {.problem = answer.error()};
  switch (answer->status) {
    case kNotModified:
      return {.unchanged = true,
              .problem = "it says that a value has not changed which we do not have"};
    case kForbidden:
      return {.final = true,
              .problem = fmt::format("it lets this machine not read {}: give this node the action "
                                     "\"get\" for it in the tailnet policy",
                                     source.name)};
    case kNotFound:
      return {.final = true,
              .problem = fmt::format("it has no secret {}: put it there (setec put {}), or set "
                                     "-secrets-path-prefix",
                                     source.name, source.name)};
    case kOk:
      break;
    default:
      return {.problem = fmt::format("it answers with status {}", answer->status)};
  }
  auto secret = read_setec_answer(answer->body);
  if (!secret) return {.final = true, .problem = "its answer is not that of a setec server"};
  return {.secret = std::move(secret)};
}

// --- The cache

std::string read_cache_file(const std::string& path, Log& log) {
  if (path.empty()) return {};
  auto content = read_file(path, kCacheFileMax);
  if (content) return std::move(*content);
  if (content.error().problem != FileProblem::kMissing)
    log.warn(fmt::format("secrets cache: {}; going on without it", content.error().message));
  return {};
}

void write_cache_file(const std::string& path, std::string_view content, Log& log) {
  if (path.empty()) return;
  auto written = make_folders(folder_of(path), kCacheFolderMode);
  if (written) written = replace_file(path, content, kCacheFileMode);
  if (!written)
    log.warn(fmt::format(
        "secrets cache: {}; without it this relay cannot start while the setec server is away",
        written.error().message));
}

}  // namespace

std::string setec_mesh_key_name(std::string_view prefix) {
  return (std::filesystem::path(prefix) / "meshkey").lexically_normal().generic_string();
}

std::string setec_request(std::string_view name, std::uint32_t known_version) {
  return json{{"Name", name}, {"Version", known_version}, {"UpdateIfChanged", known_version != 0}}
      .dump(-1, ' ', false, json::error_handler_t::replace);
}

std::optional<Secret> read_setec_answer(std::string_view body) {
  return read_value(parse(body));
}

std::optional<Secret> read_setec_cache(std::string_view content, std::string_view name) {
  const json all = parse(content);
  if (!all.is_object()) return std::nullopt;
  const auto entry = all.find(name);
  if (entry == all.end() || !entry->is_object()) return std::nullopt;
  const auto secret = entry->find("secret");
  return secret == entry->end() ? std::nullopt : read_value(*secret);
}

std::string write_setec_cache(std::string_view content, std::string_view name, const Secret& secret,
                              std::int64_t unix_seconds) {
  json all = parse(content);
  if (!all.is_object()) all = json::object();
  all[std::string(name)] = {
      {"secret", {{"Value", base64(secret.value)}, {"Version", secret.version}}},
      {"lastAccess", std::to_string(unix_seconds)}};
  return all.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::expected<std::string, std::string> fetch_secret(const SetecSource& source, Log& log) {
  const std::string content = read_cache_file(source.cache_file, log);
  const auto cached = read_setec_cache(content, source.name);
  const auto give_up = std::chrono::steady_clock::now() + kSetecPatience;
  for (std::chrono::milliseconds pause = kPauseMin;;
       pause = std::min<std::chrono::milliseconds>(2 * pause, kPauseMax)) {
    const Asked asked = ask(source, cached ? cached->version : 0);
    if (asked.secret) {
      log.info(fmt::format("secret {}: version {} from {}", source.name, asked.secret->version,
                           source.url));
      write_cache_file(source.cache_file,
                       write_setec_cache(content, source.name, *asked.secret, std::time(nullptr)),
                       log);
      return asked.secret->value;
    }
    if (cached && asked.unchanged) {
      log.info(fmt::format("secret {}: version {} is still that of {}", source.name,
                           cached->version, source.url));
      return cached->value;
    }
    if (cached) {
      log.warn(fmt::format("secret {}: {}: {}; going on with version {} from {}", source.name,
                           source.url, asked.problem, cached->version, source.cache_file));
      return cached->value;
    }
    if (asked.final || std::chrono::steady_clock::now() + pause > give_up)
      return std::unexpected(fmt::format(
          "mesh key: setec server {} (-secrets-url): {}; or put the key into a file and name that "
          "with -mesh-psk-file",
          source.url, asked.problem));
    log.warn(
        fmt::format("secret {}: {}: {}; trying again", source.name, source.url, asked.problem));
    std::this_thread::sleep_for(pause);
  }
}

}  // namespace detour::cli
