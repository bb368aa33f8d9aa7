#include "acme/openssl.h"

#include <arpa/inet.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <ctime>
#include <utility>

#include "base/check.h"

namespace detour::acme {

BioPtr read_bio(std::string_view text) {
  BioPtr bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  DETOUR_CHECK(bio != nullptr);
  return bio;
}

BioPtr write_bio() {
  BioPtr bio(BIO_new(BIO_s_mem()));
  DETOUR_CHECK(bio != nullptr);
  return bio;
}

std::string written(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  return size > 0 ? std::string(data, static_cast<std::size_t>(size)) : std::string();
}

std::string take_openssl_error() {
  const unsigned long code = ERR_get_error();
  ERR_clear_error();
  if (code == 0) return "no reason given";
  const char* reason = ERR_reason_error_string(code);
  return reason != nullptr ? reason : fmt::format("error {:x}", code);
}

WallTime to_wall_time(const ASN1_TIME* time) {
  std::tm fields{};
  if (ASN1_TIME_to_tm(time, &fields) != 1) return {};
  // system_clock ends in the year 2262; certificates "without end" are written as 9999.
  using std::chrono::floor;
  using std::chrono::seconds;
  constexpr auto kFirst = floor<seconds>(WallTime::min()) + seconds(1);
  constexpr auto kLast = floor<seconds>(WallTime::max());
  const std::chrono::sys_seconds found{seconds(timegm(&fields))};
  return std::clamp(found, kFirst, kLast);
}

std::string to_text(WallTime time) {
  return fmt::format("{:%Y-%m-%d %H:%M:%S} UTC",
                     fmt::gmtime(std::chrono::system_clock::to_time_t(time)));
}

std::string name_text(const X509_NAME* name) {
  const int index = X509_NAME_get_index_by_NID(name, NID_commonName, -1);
  if (index >= 0) {
    const ASN1_STRING* value = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, index));
    unsigned char* utf8 = nullptr;
    const int size = ASN1_STRING_to_UTF8(&utf8, value);
    if (size >= 0) {
      std::string text(reinterpret_cast<const char*>(utf8), static_cast<std::size_t>(size));
      OPENSSL_free(utf8);
      return text;
    }
  }
  const auto bio = write_bio();
  X509_NAME_print_ex(bio.get(), name, 0, XN_FLAG_RFC2253);
  return written(bio.get());
}

std::string subject_text(X509* certificate) {
  return name_text(X509_get_subject_name(certificate));
}

std::string issuer_text(X509* certificate) {
  return name_text(X509_get_issuer_name(certificate));
}

AlternativeNames alternative_names(X509* certificate) {
  AlternativeNames names;
  const GeneralNamesPtr found(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
  if (found == nullptr) return names;

  for (int i = 0; i < sk_GENERAL_NAME_num(found.get()); ++i) {
    int type = 0;
    const auto* value = static_cast<const ASN1_STRING*>(
        GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(found.get(), i), &type));
    if (type != GEN_DNS && type != GEN_IPADD) continue;
    const unsigned char* data = ASN1_STRING_get0_data(value);
    const auto size = static_cast<std::size_t>(ASN1_STRING_length(value));
    if (type == GEN_DNS) {
      names.dns.emplace_back(reinterpret_cast<const char*>(data), size);
      continue;
    }
    std::array<char, INET6_ADDRSTRLEN> text{};
    const int family = size == 4 ? AF_INET : AF_INET6;
    if ((size == 4 || size == 16) && inet_ntop(family, data, text.data(), text.size()) != nullptr)
      names.ips.emplace_back(text.data());
  }
  return names;
}

std::string issuer_url(X509* certificate) {
  const AccessInfoPtr info(static_cast<AUTHORITY_INFO_ACCESS*>(
      X509_get_ext_d2i(certificate, NID_info_access, nullptr, nullptr)));
  if (info == nullptr) return {};
  for (int i = 0; i < sk_ACCESS_DESCRIPTION_num(info.get()); ++i) {
    const ACCESS_DESCRIPTION* entry = sk_ACCESS_DESCRIPTION_value(info.get(), i);
    if (OBJ_obj2nid(entry->method) != NID_ad_ca_issuers) continue;
    int type = 0;
    const auto* value =
        static_cast<const ASN1_STRING*>(GENERAL_NAME_get0_value(entry->location, &type));
    if (type != GEN_URI) continue;
    return {reinterpret_cast<const char*>(ASN1_STRING_get0_data(value)),
            static_cast<std::size_t>(ASN1_STRING_length(value))};
  }
  return {};
}

std::vector<unsigned char> ip_bytes(std::string_view text) {
  const std::string terminated(text);
  std::vector<unsigned char> bytes(4);
  if (inet_pton(AF_INET, terminated.c_str(), bytes.data()) == 1) return bytes;
  bytes.resize(16);
  if (inet_pton(AF_INET6, terminated.c_str(), bytes.data()) == 1) return bytes;
  return {};
}

ServerCertificate describe_leaf(CertificatePtr leaf, PrivateKeyPtr key) {
  ServerCertificate described;
  described.self_signed = X509_self_signed(leaf.get(), /*verify_signature=*/1) == 1;
  ERR_clear_error();
  described.pin = certificate_pin(leaf.get());
  described.not_before = to_wall_time(X509_get0_notBefore(leaf.get()));
  described.not_after = to_wall_time(X509_get0_notAfter(leaf.get()));
  auto names = alternative_names(leaf.get());
  described.names = std::move(names.dns);
  for (auto& ip : names.ips) described.names.push_back(std::move(ip));
  described.leaf = std::move(leaf);
  described.key = std::move(key);
  return described;
}

std::string certificate_pin(X509* leaf) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int size = 0;
  DETOUR_CHECK(X509_digest(leaf, EVP_sha256(), digest.data(), &size) == 1);
  std::string pin = "sha256-raw:";
  for (unsigned int i = 0; i < size; ++i) pin += fmt::format("{:02x}", digest[i]);
  return pin;
}

std::string certificate_file_stem(std::string_view hostname) {
  std::string stem;
  for (const char c : hostname) {
    const bool kept = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                      c == '-' || c == '.';
    if (kept) stem += c;
  }
  return stem;
}

}  // namespace detour::acme
