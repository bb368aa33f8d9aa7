#include "acme/pem.h"

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <cstddef>
#include <optional>
#include <utility>

#include "acme/openssl.h"
#include "base/check.h"

namespace detour::acme {
namespace {

/// Far more than any chain has; a whole bundle of roots given by mistake is told apart by it.
constexpr std::size_t kBlocksMax = 64;

/// One `-----BEGIN name-----` block. Its bytes are wiped, since they may be a key.
class PemBlock {
 public:
  PemBlock() = default;
  PemBlock(const PemBlock&) = delete;
  PemBlock& operator=(const PemBlock&) = delete;
  ~PemBlock() {
    OPENSSL_free(name_);
    OPENSSL_free(header_);
    OPENSSL_clear_free(data_, static_cast<std::size_t>(size_));
  }

  [[nodiscard]] bool read(BIO* bio) {
    return PEM_read_bio(bio, &name_, &header_, &data_, &size_) == 1;
  }
  [[nodiscard]] std::string_view name() const { return name_; }
  [[nodiscard]] std::string_view header() const { return header_; }
  [[nodiscard]] const unsigned char* data() const { return data_; }
  [[nodiscard]] long size() const { return size_; }

 private:
  char* name_ = nullptr;
  char* header_ = nullptr;
  unsigned char* data_ = nullptr;
  long size_ = 0;
};

bool is_certificate(std::string_view name) {
  return name == PEM_STRING_X509 || name == PEM_STRING_X509_OLD || name == PEM_STRING_X509_TRUSTED;
}

bool is_key(std::string_view name) {
  return name == PEM_STRING_PKCS8INF || name == PEM_STRING_RSA || name == PEM_STRING_ECPRIVATEKEY;
}

bool is_encrypted_key(const PemBlock& block) {
  return block.name() == PEM_STRING_PKCS8 ||
         (is_key(block.name()) && block.header().find("ENCRYPTED") != std::string_view::npos);
}

CertificatePtr decode_certificate(const PemBlock& block) {
  const unsigned char* at = block.data();
  // A "trusted" certificate has OpenSSL's own settings behind it, which are of no use here.
  if (block.name() == PEM_STRING_X509_TRUSTED)
    return CertificatePtr(d2i_X509_AUX(nullptr, &at, block.size()));
  return CertificatePtr(d2i_X509(nullptr, &at, block.size()));
}

PrivateKeyPtr decode_key(const PemBlock& block) {
  const unsigned char* at = block.data();
  return PrivateKeyPtr(d2i_AutoPrivateKey(nullptr, &at, block.size()));
}

/// What is wrong with text in which not one PEM block was found.
std::string not_pem(const std::string& path, std::string_view text) {
  if (text.empty())
    return fmt::format(
        "{}: is empty; it was perhaps written while the disk was full: install the "
        "certificate again",
        path);
  if (text.starts_with('\x30'))
    return fmt::format(
        "{}: is in binary form (DER or PKCS#12), PEM text is needed; convert it with `openssl x509 "
        "-inform der -in {} -out cert.pem`, or for PKCS#12 `openssl pkcs12 -in {} -nodes -out "
        "all.pem`",
        path, path, path);
  if (text.starts_with("ssh-") || text.find("BEGIN OPENSSH") != std::string_view::npos)
    return fmt::format("{}: is an SSH key, a TLS certificate or key is needed", path);
  return fmt::format("{}: is not PEM: it has no line like -----BEGIN CERTIFICATE-----", path);
}

std::string not_usable(const std::string& path, const std::vector<std::string>& names) {
  for (const auto& name : names) {
    if (name.ends_with("CERTIFICATE REQUEST"))
      return fmt::format(
          "{}: is a certificate request (CSR), which has to go to an authority to "
          "become a certificate",
          path);
    if (name == "PUBLIC KEY")
      return fmt::format("{}: is a public key; the certificate or the private key is needed", path);
    if (name == "OPENSSH PRIVATE KEY")
      return fmt::format("{}: is an SSH key, a TLS certificate or key is needed", path);
  }
  return fmt::format("{}: holds neither a certificate nor a private key, only {}", path,
                     names.front());
}

}  // namespace

std::expected<PemContent, std::string> parse_pem(const std::string& path, std::string_view text) {
  PemContent content;
  std::vector<std::string> other_names;
  const auto bio = read_bio(text);
  ERR_clear_error();

  for (std::size_t number = 1;; ++number) {
    PemBlock block;
    if (!block.read(bio.get())) {
      if (ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE) {
        ERR_clear_error();
        break;
      }
      return std::unexpected(
          fmt::format("{}: PEM block {} is damaged ({}): the file was cut off or edited, "
                      "install it again",
                      path, number, take_openssl_error()));
    }
    if (number > kBlocksMax)
      return std::unexpected(
          fmt::format("{}: holds more than {} PEM blocks: it looks like a bundle of authorities "
                      "and not like one certificate with its chain",
                      path, kBlocksMax));
    if (is_encrypted_key(block))
      return std::unexpected(fmt::format(
          "{}: the private key is encrypted, and nobody is there to type its pass phrase when the "
          "relay starts; store it decrypted: `openssl pkey -in {} -out decrypted.key`",
          path, path));

    if (is_certificate(block.name())) {
      auto certificate = decode_certificate(block);
      if (certificate == nullptr)
        return std::unexpected(fmt::format("{}: PEM block {} is not a certificate ({})", path,
                                           number, take_openssl_error()));
      content.certificates.push_back(std::move(certificate));
    } else if (is_key(block.name())) {
      auto key = decode_key(block);
      if (key == nullptr)
        return std::unexpected(fmt::format("{}: PEM block {} is not a private key ({})", path,
                                           number, take_openssl_error()));
      content.keys.push_back(std::move(key));
    } else {
      other_names.emplace_back(block.name());
    }
    ERR_clear_error();
  }

  if (content.certificates.empty() && content.keys.empty())
    return std::unexpected(other_names.empty() ? not_pem(path, text)
                                               : not_usable(path, other_names));
  return content;
}

std::string to_pem(X509* certificate) {
  const auto bio = write_bio();
  DETOUR_CHECK(PEM_write_bio_X509(bio.get(), certificate) == 1);
  return written(bio.get());
}

std::string to_pem(EVP_PKEY* key) {
  const auto bio = write_bio();
  DETOUR_CHECK(PEM_write_bio_PrivateKey_traditional(bio.get(), key, nullptr, nullptr, 0, nullptr,
                                                    nullptr) == 1);
  return written(bio.get());
}

}  // namespace detour::acme
