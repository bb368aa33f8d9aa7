#include <fmt/format.h>
#include <fmt/ranges.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "acme/certificate.h"
#include "acme/openssl.h"
#include "acme/pem.h"
#include "base/check.h"
#include "base/files.h"

namespace detour::acme {
namespace {

using Problems = std::vector<std::string>;

constexpr std::size_t kPemFileSizeMax = 1024 * 1024;
constexpr std::size_t kChainMax = 10;
constexpr int kRsaBitsMin = 2048;

using FilePair = CertificateFiles;

struct Store {
  StorePtr store;
  bool has_roots = false;
};

bool is_current(X509* certificate, WallTime now) {
  return now >= to_wall_time(X509_get0_notBefore(certificate)) &&
         now <= to_wall_time(X509_get0_notAfter(certificate));
}

bool covers(X509* leaf, const std::string& hostname) {
  if (!ip_bytes(hostname).empty()) return X509_check_ip_asc(leaf, hostname.c_str(), 0) == 1;
  // Clients (Go's crypto/tls) look at the alternative names only, and at whole-label wildcards.
  constexpr unsigned int kAsClientsDo =
      X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS;
  return X509_check_host(leaf, hostname.data(), hostname.size(), kAsClientsDo, nullptr) == 1;
}

bool is_issued_by(X509* certificate, X509* issuer) {
  return X509_check_issued(issuer, certificate) == X509_V_OK &&
         X509_verify(certificate, X509_get0_pubkey(issuer)) == 1;
}

/// How to get a certificate in these files with the usual tools.
std::string how_to_install(const std::string& hostname, const FilePair& files) {
  return fmt::format(
      "with acme.sh: `acme.sh --install-cert -d {0} --fullchain-file {1} --key-file {2}`; with "
      "certbot: `cp /etc/letsencrypt/live/{0}/fullchain.pem {1}` and `cp "
      "/etc/letsencrypt/live/{0}/privkey.pem {2}`",
      hostname, files.cert, files.key);
}

// --- Reading ------------------------------------------------------------------------------------

/// Adds what `text` holds to `all`.
std::expected<void, std::string> add_pem(const std::string& path, std::string_view text,
                                         PemContent& all) {
  auto content = parse_pem(path, text);
  if (!content) return std::unexpected("certificate: " + content.error());
  std::ranges::move(content->certificates, std::back_inserter(all.certificates));
  std::ranges::move(content->keys, std::back_inserter(all.keys));
  return {};
}

/// Adds what the file `path` holds to `all`.
std::expected<void, std::string> read_pem(const std::string& path, PemContent& all) {
  auto text = read_file(path, kPemFileSizeMax);
  if (!text) return std::unexpected("certificate: " + text.error().message);
  auto added = add_pem(path, *text, all);
  OPENSSL_cleanse(text->data(), text->size());
  return added;
}

std::expected<PemContent, std::string> check_both(PemContent all, const FilePair& files);

std::expected<PemContent, std::string> read_files(const FilePair& files) {
  PemContent all;
  Problems problems;
  if (auto read = read_pem(files.cert, all); !read) problems.push_back(read.error());
  if (files.key != files.cert)
    if (auto read = read_pem(files.key, all); !read) problems.push_back(read.error());
  if (!problems.empty()) return std::unexpected(fmt::format("{}", fmt::join(problems, "\n")));
  return check_both(std::move(all), files);
}

/// Whether there is at least one certificate and one key.
std::expected<PemContent, std::string> check_both(PemContent all, const FilePair& files) {
  if (all.certificates.empty())
    return std::unexpected(
        fmt::format("certificate: {} holds a private key and no certificate; give the file with "
                    "the full chain (fullchain.pem)",
                    files.cert));
  if (all.keys.empty())
    return std::unexpected(
        files.key == files.cert
            ? fmt::format("certificate: {} holds no private key; give the key's file as well "
                          "(--key), or append the key to this file",
                          files.cert)
            : fmt::format("certificate: neither {} nor {} holds a private key; the key's file "
                          "begins with a line like -----BEGIN PRIVATE KEY-----",
                          files.cert, files.key));
  return all;
}

// --- Leaf ---------------------------------------------------------------------------------------

/// Takes the certificate of one of the keys, with that key. Where several fit (renewals with the
/// same key), the one that covers the host name now, and of those the one that lasts longest.
std::optional<ServerCertificate> take_leaf(PemContent& all, const CertificateRequest& request) {
  const auto rank = [&](X509* candidate) {
    return std::tuple(covers(candidate, request.hostname), is_current(candidate, request.now),
                      to_wall_time(X509_get0_notAfter(candidate)));
  };
  CertificatePtr* best = nullptr;
  PrivateKeyPtr* best_key = nullptr;
  for (auto& key : all.keys) {
    for (auto& candidate : all.certificates) {
      if (X509_check_private_key(candidate.get(), key.get()) != 1) continue;
      if (best != nullptr && rank(best->get()) >= rank(candidate.get())) continue;
      best = &candidate;
      best_key = &key;
    }
  }
  ERR_clear_error();
  if (best == nullptr) return std::nullopt;

  auto found = describe_leaf(std::move(*best), std::move(*best_key));
  std::erase(all.certificates, nullptr);
  return found;
}

std::string key_mismatch(const PemContent& all, const FilePair& files) {
  Problems subjects;
  for (const auto& certificate : all.certificates)
    subjects.push_back(subject_text(certificate.get()));
  return fmt::format(
      "certificate: the private key in {} does not match any certificate in {} (which holds: {}); "
      "the "
      "two come from different issuances: install both from the same one",
      files.key, files.cert, fmt::join(subjects, ", "));
}

void check_dates(const ServerCertificate& certificate, const CertificateRequest& request,
                 Problems& problems) {
  if (request.now < certificate.not_before)
    problems.push_back(
        fmt::format("certificate: {} is not yet valid: it begins at {}, and this machine's clock "
                    "says {}; if the clock is "
                    "wrong, set it (`timedatectl set-ntp true`)",
                    certificate.cert_file, to_text(certificate.not_before), to_text(request.now)));
  if (request.now > certificate.not_after)
    problems.push_back(fmt::format(
        "certificate: {} expired at {} (now: {}), every client will refuse it; renew it and copy "
        "the new files into place",
        certificate.cert_file, to_text(certificate.not_after), to_text(request.now)));
}

/// Why the names that are there do not do, where there is more to say than the list.
std::string why_not_covered(const ServerCertificate& certificate, const std::string& hostname) {
  const bool listed = std::ranges::find(certificate.names, hostname) != certificate.names.end();
  if (!ip_bytes(hostname).empty())
    return listed ? "; it has the address as a DNS name, and clients want it as an IP address"
                  : "; clients that are given an IP address want it as an IP address in the "
                    "certificate";
  for (const auto& name : certificate.names) {
    if (!name.starts_with("*.")) continue;
    const std::string_view domain = std::string_view(name).substr(1);
    if (hostname.ends_with(domain) || hostname == domain.substr(1))
      return fmt::format(
          "; a wildcard stands for exactly one label: {} covers a{} and neither {} "
          "nor a.b{}",
          name, domain, domain.substr(1), domain);
  }
  if (certificate.names.empty() && subject_text(certificate.leaf.get()) == hostname)
    return "; its common name is that, but clients look only at the alternative names (SAN)";
  return {};
}

void check_name(const ServerCertificate& certificate, const CertificateRequest& request,
                Problems& problems) {
  if (covers(certificate.leaf.get(), request.hostname)) return;
  const std::string listed = certificate.names.empty()
                                 ? "no name at all"
                                 : fmt::format("{}", fmt::join(certificate.names, ", "));
  problems.push_back(
      fmt::format("certificate: {} is for {} and does not cover the host name {} ({}){}; start "
                  "with a host name "
                  "that it covers, or get a certificate for {}",
                  certificate.cert_file, listed, request.hostname, request.hostname_setting,
                  why_not_covered(certificate, request.hostname), request.hostname));
}

// --- Chain --------------------------------------------------------------------------------------

/// Moves the issuers of the leaf out of `pool` into the chain, in order.
void build_chain(ServerCertificate& certificate, std::vector<CertificatePtr>& pool, WallTime now) {
  X509* current = certificate.leaf.get();
  while (certificate.chain.size() < kChainMax && X509_self_signed(current, 0) != 1) {
    auto next = pool.end();
    for (auto candidate = pool.begin(); candidate != pool.end(); ++candidate) {
      if (!is_issued_by(current, candidate->get())) continue;
      // Cross-signed or renewed issuers: rather the one that is valid.
      if (next == pool.end() ||
          (!is_current(next->get(), now) && is_current(candidate->get(), now)))
        next = candidate;
    }
    if (next == pool.end()) break;
    current = next->get();
    certificate.chain.push_back(std::move(*next));
    pool.erase(next);
  }
  ERR_clear_error();
}

void note_left_out(ServerCertificate& certificate, const std::vector<CertificatePtr>& pool) {
  for (const auto& other : pool) {
    const bool same = X509_cmp(other.get(), certificate.leaf.get()) == 0 ||
                      std::ranges::any_of(certificate.chain, [&](const auto& link) {
                        return X509_cmp(other.get(), link.get()) == 0;
                      });
    if (same) continue;
    certificate.notices.push_back(
        fmt::format("certificate: {} also holds \"{}\", which is not part of the chain and is left "
                    "out",
                    certificate.cert_file, subject_text(other.get())));
  }
}

Store load_trust_store(const std::string& trust_file) {
  Store trust{.store = StorePtr(X509_STORE_new())};
  DETOUR_CHECK(trust.store != nullptr);
  if (!trust_file.empty()) {
    trust.has_roots = X509_STORE_load_file(trust.store.get(), trust_file.c_str()) == 1;
  } else {
    // Looks at SSL_CERT_FILE and SSL_CERT_DIR too. The folder is read name by name when asked.
    X509_STORE_set_default_paths(trust.store.get());
    trust.has_roots = sk_X509_OBJECT_num(X509_STORE_get0_objects(trust.store.get())) > 0;
  }
  ERR_clear_error();
  return trust;
}

bool issuer_is_trusted(const Store& trust, X509* certificate) {
  const StoreContextPtr context(X509_STORE_CTX_new());
  DETOUR_CHECK(context != nullptr);
  DETOUR_CHECK(X509_STORE_CTX_init(context.get(), trust.store.get(), certificate, nullptr) == 1);
  X509* found = nullptr;
  const bool has_issuer =
      X509_STORE_CTX_get1_issuer(&found, context.get(), certificate) == 1 && found != nullptr;
  const CertificatePtr issuer(found);
  const bool trusted = has_issuer && X509_verify(certificate, X509_get0_pubkey(issuer.get())) == 1;
  ERR_clear_error();
  return trusted;
}

void check_chain(ServerCertificate& certificate, const CertificateRequest& request,
                 const FilePair& files, Problems& problems) {
  if (certificate.self_signed) {
    if (ip_bytes(request.hostname).empty())
      certificate.notices.push_back(fmt::format(
          "certificate: {} is self-signed: clients accept it only when the DERP map has "
          "\"CertName\": \"{}\"",
          certificate.cert_file, certificate.pin));
    return;
  }
  X509* last = certificate.chain.empty() ? certificate.leaf.get() : certificate.chain.back().get();
  if (X509_self_signed(last, 0) == 1) return;
  if (request.any_authority) return;
  const Store trust = load_trust_store(request.trust_file);
  if (issuer_is_trusted(trust, last)) return;

  if (!certificate.chain.empty()) {
    if (trust.has_roots)
      certificate.warnings.push_back(fmt::format(
          "certificate: the chain in {} ends at \"{}\", whose issuer \"{}\" is not among this "
          "machine's trusted roots; unless it is a private authority that all clients know, a "
          "further intermediate is missing in the file",
          certificate.cert_file, subject_text(last), issuer_text(last)));
    return;
  }
  const std::string what =
      fmt::format("certificate: {} holds the certificate without its intermediate \"{}\"",
                  certificate.cert_file, issuer_text(last));
  if (request.allow_incomplete_chain) {
    certificate.warnings.push_back(fmt::format(
        "{}; accepted ({}): only clients that know this authority themselves can connect", what,
        request.allow_incomplete_chain_setting));
    return;
  }
  const std::string url = issuer_url(last);
  problems.push_back(fmt::format(
      "{}: netcheck would look fine and no client could relay. Install the full chain {}{}. For a "
      "private authority whose root every client has installed: {}",
      what, how_to_install(request.hostname, files),
      url.empty() ? std::string()
                  : fmt::format(" (or append the intermediate by hand, it is at {})", url),
      request.allow_incomplete_chain_setting));
}

// --- Weaknesses ---------------------------------------------------------------------------------

bool has_weak_signature(X509* certificate) {
  int digest = NID_undef;
  X509_get_signature_info(certificate, &digest, nullptr, nullptr, nullptr);
  return digest == NID_sha1 || digest == NID_md5;
}

void warn_of_weaknesses(ServerCertificate& certificate, const CertificateRequest& request) {
  const WallTime now = request.now;
  const auto warn = [&](std::string what) {
    certificate.warnings.push_back(fmt::format("certificate: {} {}", certificate.cert_file, what));
  };
  if (now <= certificate.not_after && certificate.not_after - now < request.expires_soon)
    warn(fmt::format("expires in {} days, at {}: renew it; new files are picked up by themselves",
                     std::chrono::floor<std::chrono::days>(certificate.not_after - now).count(),
                     to_text(certificate.not_after)));

  const int bits = EVP_PKEY_get_bits(certificate.key.get());
  if (EVP_PKEY_get_base_id(certificate.key.get()) == EVP_PKEY_RSA && bits < kRsaBitsMin)
    warn(
        fmt::format("has an RSA key of {} bits, which clients refuse: get one with an ECDSA P-256 "
                    "key, or RSA of at least {} bits",
                    bits, kRsaBitsMin));

  if (!certificate.self_signed && has_weak_signature(certificate.leaf.get()))
    warn("is signed with SHA-1 or MD5, which clients refuse: get a new one");
  for (const auto& link : certificate.chain) {
    const bool is_root = X509_self_signed(link.get(), 0) == 1;
    if (!is_root && has_weak_signature(link.get()))
      warn(fmt::format("has an intermediate \"{}\" signed with SHA-1 or MD5, which clients refuse",
                       subject_text(link.get())));
    if (!is_root && !is_current(link.get(), now))
      warn(fmt::format("has an intermediate \"{}\" that is valid only from {} to {}",
                       subject_text(link.get()),
                       to_text(to_wall_time(X509_get0_notBefore(link.get()))),
                       to_text(to_wall_time(X509_get0_notAfter(link.get())))));
  }
  ERR_clear_error();
}

// --- Self-signed certificate for an IP address

/// Makes the pair of files. The key goes first, so a certificate on disk always has its key.
std::expected<void, std::string> keep(const ServerCertificate& made, const FilePair& files) {
  if (auto folder = make_folders(folder_of(files.cert), 0700); !folder)
    return std::unexpected("certificate: " + folder.error().message);
  std::string key_pem = to_pem(made.key.get());
  const auto key_written = write_new_file(files.key, key_pem, 0600);
  OPENSSL_cleanse(key_pem.data(), key_pem.size());
  if (!key_written) return std::unexpected("certificate: " + key_written.error().message);

  const auto cert_written = write_new_file(files.cert, to_pem(made.leaf.get()), 0644);
  if (!cert_written) {
    // Ours and never used; left behind it would stop the next start.
    std::remove(files.key.c_str());
    return std::unexpected("certificate: " + cert_written.error().message);
  }
  return {};
}

std::expected<ServerCertificate, std::string> make_and_keep(const CertificateRequest& request,
                                                            const FilePair& files) {
  auto made = make_self_signed(request.hostname, request.now);
  if (!made) return std::unexpected("certificate: " + made.error());
  if (auto kept = keep(*made, files); !kept) return std::unexpected(kept.error());
  made->cert_file = files.cert;
  made->key_file = files.key;
  made->notices.push_back(fmt::format(
      "certificate: made a self-signed one for {}, valid until {}: {} and {}; keep both files, "
      "since clients are pinned to this certificate",
      request.hostname, to_text(made->not_after), files.cert, files.key));
  return made;
}

/// What to say when one or both of the two files in the certificate folder are missing.
std::string missing_files(const CertificateRequest& request, const FilePair& files, bool has_cert,
                          bool has_key) {
  if (has_cert != has_key) {
    const std::string& there = has_cert ? files.cert : files.key;
    const std::string& gone = has_cert ? files.key : files.cert;
    const std::string both = ip_bytes(request.hostname).empty()
                                 ? how_to_install(request.hostname, files)
                                 : std::string(
                                       "or, if it is lost, move the other one away: a new "
                                       "self-signed pair is made then, and its new pin has "
                                       "to go into the DERP map");
    return fmt::format(
        "certificate: {} exists and {} does not. Nothing is overwritten: put the "
        "missing file back; {}",
        there, gone, both);
  }
  return fmt::format(
      "certificate: there is none for {}: {} and {} do not exist ({}). Put the full chain and its "
      "key there: {}. Or use this machine's IP address as host name ({}): a certificate that "
      "clients pin is made for that then",
      request.hostname, files.cert, files.key, request.cert_dir_setting,
      how_to_install(request.hostname, files), request.hostname_setting);
}

std::expected<ServerCertificate, std::string> examine(PemContent all,
                                                      const CertificateRequest& request,
                                                      const FilePair& files) {
  auto certificate = take_leaf(all, request);
  if (!certificate) return std::unexpected(key_mismatch(all, files));
  certificate->cert_file = files.cert;
  certificate->key_file = files.key;

  Problems problems;
  check_dates(*certificate, request, problems);
  check_name(*certificate, request, problems);
  build_chain(*certificate, all.certificates, request.now);
  check_chain(*certificate, request, files, problems);
  if (!problems.empty()) return std::unexpected(fmt::format("{}", fmt::join(problems, "\n")));

  note_left_out(*certificate, all.certificates);
  warn_of_weaknesses(*certificate, request);
  return std::move(*certificate);
}

std::expected<ServerCertificate, std::string> load(const CertificateRequest& request,
                                                   const FilePair& files) {
  auto all = read_files(files);
  if (!all) return std::unexpected(all.error());
  return examine(std::move(*all), request, files);
}

}  // namespace

CertificateFiles certificate_files(const CertificateRequest& request) {
  if (!request.cert_file.empty())
    return {.cert = request.cert_file,
            .key = request.key_file.empty() ? request.cert_file : request.key_file};
  const std::string stem = certificate_file_stem(request.hostname);
  return {.cert = fmt::format("{}/{}.crt", request.cert_dir, stem),
          .key = fmt::format("{}/{}.key", request.cert_dir, stem)};
}

std::expected<ServerCertificate, std::string> check_certificate(const CertificateRequest& request,
                                                                std::string_view cert_pem,
                                                                std::string_view key_pem) {
  const auto files = certificate_files(request);
  PemContent all;
  if (auto added = add_pem(files.cert, cert_pem, all); !added)
    return std::unexpected(added.error());
  if (!key_pem.empty())
    if (auto added = add_pem(files.key, key_pem, all); !added)
      return std::unexpected(added.error());
  auto both = check_both(std::move(all), files);
  if (!both) return std::unexpected(both.error());
  return examine(std::move(*both), request, files);
}

std::expected<ServerCertificate, std::string> load_certificate(const CertificateRequest& request) {
  const auto files = certificate_files(request);
  if (!request.cert_file.empty()) return load(request, files);

  const bool has_cert = exists(files.cert);
  const bool has_key = exists(files.key);
  if (has_cert && has_key) return load(request, files);
  if (!has_cert && !has_key && !ip_bytes(request.hostname).empty() && request.make_if_missing)
    return make_and_keep(request, files);
  return std::unexpected(missing_files(request, files, has_cert, has_key));
}

}  // namespace detour::acme
