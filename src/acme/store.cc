#include "acme/store.h"

#include <fmt/format.h>
#include <openssl/crypto.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "acme/pem.h"
#include "base/files.h"

namespace detour::acme {
namespace {

constexpr mode_t kFolderMode = 0700;
constexpr mode_t kFileMode = 0600;
constexpr std::size_t kFileSizeMax = 1024 * 1024;
/// The first line of a file tells where it came from. PEM readers pass over such text.
constexpr std::string_view kOrigin = "ACME directory: ";

/// Wiped at the end, since it holds a key.
class Secret {
 public:
  explicit Secret(std::string content) : text(std::move(content)) {}
  ~Secret() { OPENSSL_cleanse(text.data(), text.size()); }
  Secret(const Secret&) = delete;
  Secret& operator=(const Secret&) = delete;

  std::string text;
};

/// Empty when the file does not say: derper wrote it.
std::string_view origin(std::string_view text) {
  if (!text.starts_with(kOrigin)) return {};
  text.remove_prefix(kOrigin.size());
  return text.substr(0, text.find('\n'));
}

void set_aside(const std::string& path) {
  std::rename(path.c_str(), (path + ".pinned").c_str());
}

}  // namespace

CertificateStore::CertificateStore(std::string folder, std::string directory_url)
    : folder_(std::move(folder)), directory_url_(std::move(directory_url)) {}

CertificateFiles CertificateStore::files(const Identifier& identifier) const {
  std::string name = identifier.value;
  if (!identifier.is_ip) {
    const std::string path = fmt::format("{}/{}", folder_, name);
    return {.cert = path, .key = path};
  }
  std::ranges::replace(name, ':', '.');
  return {.cert = fmt::format("{}/{}.crt", folder_, name),
          .key = fmt::format("{}/{}.key", folder_, name)};
}

CertificateRequest CertificateStore::request(const Identifier& identifier, WallTime now) const {
  const auto names = files(identifier);
  CertificateRequest request;
  request.hostname = identifier.value;
  request.cert_file = names.cert;
  request.key_file = names.key;
  request.allow_incomplete_chain = true;  // A private authority may sign with its root.
  request.any_authority = true;
  request.expires_soon = std::chrono::seconds(0);  // The keeper renews and says what it does.
  request.make_if_missing = false;
  request.now = now;
  return request;
}

std::expected<AccountKey, std::string> CertificateStore::account_key() const {
  const std::string path = folder_ + "/acme_account+key";
  // Where derper keeps the account that it has for addresses.
  const std::string other = folder_ + "/acme-account.key";
  const std::string& found = exists(path) || !exists(other) ? path : other;
  if (exists(found)) {
    auto content = read_file(found, kFileSizeMax);
    if (!content) return std::unexpected(content.error().message);
    const Secret text(std::move(*content));
    return AccountKey::parse(found, text.text);
  }
  if (auto folder = make_folders(folder_, kFolderMode); !folder)
    return std::unexpected(folder.error().message);
  auto made = AccountKey::generate();
  const Secret text(made.pem());
  if (auto written = write_new_file(path, text.text, kFileMode); !written)
    return std::unexpected(written.error().message);
  return made;
}

std::expected<std::optional<StoredCertificate>, std::string> CertificateStore::load(
    const Identifier& identifier, WallTime now) const {
  const auto names = files(identifier);
  if (!exists(names.cert) || !exists(names.key)) return std::nullopt;
  auto content = read_file(names.cert, kFileSizeMax);
  if (!content) return std::unexpected("certificate: " + content.error().message);
  const Secret text(std::move(*content));
  auto certificate = load_certificate(request(identifier, now));
  if (!certificate) return std::unexpected(certificate.error());
  // Made by ourselves for clients that pin it: no authority gave it.
  if (certificate->self_signed) return std::nullopt;
  const auto from = origin(text.text);
  const bool from_elsewhere = !from.empty() && from != directory_url_;
  return StoredCertificate{.certificate = std::move(*certificate),
                           .from_elsewhere = from_elsewhere};
}

std::expected<ServerCertificate, std::string> CertificateStore::save(
    const Identifier& identifier, const IssuedCertificate& issued, WallTime now) const {
  const auto names = files(identifier);
  const Secret key(to_pem(issued.key.get()));
  auto checked = check_certificate(request(identifier, now), issued.chain_pem, key.text);
  if (!checked) return std::unexpected(checked.error());

  // Written out again: only what was checked, in its order.
  std::string chain = to_pem(checked->leaf.get());
  for (const auto& issuer : checked->chain) chain += to_pem(issuer.get());
  const std::string first_line = fmt::format("{}{}\n", kOrigin, directory_url_);
  if (auto folder = make_folders(folder_, kFolderMode); !folder)
    return std::unexpected("certificate: " + folder.error().message);
  if (!identifier.is_ip) {
    const Secret all(first_line + key.text + chain);
    if (auto written = replace_file(names.cert, all.text, kFileMode); !written)
      return std::unexpected("certificate: " + written.error().message);
    return checked;
  }

  if (const auto before = load_certificate(request(identifier, now));
      before && before->self_signed) {
    set_aside(names.cert);
    set_aside(names.key);
  }
  // The key goes first. Between the two the pair does not match, and a start just then orders anew.
  if (auto written = replace_file(names.key, key.text, kFileMode); !written)
    return std::unexpected("certificate: " + written.error().message);
  if (auto written = replace_file(names.cert, first_line + chain, kFileMode); !written)
    return std::unexpected("certificate: " + written.error().message);
  return checked;
}

}  // namespace detour::acme
