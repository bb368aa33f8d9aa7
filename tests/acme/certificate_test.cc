#include "acme/certificate.h"

#include <gtest/gtest.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <string>
#include <vector>

#include "support/certificates.h"
#include "support/hex.h"
#include "support/says.h"
#include "support/temp_folder.h"

namespace detour::acme {
namespace {

using std::chrono::seconds;
using test::KeyForm;
using test::KeyKind;
using test::kTestTime;
using test::make_certificate;
using test::make_chain;
using test::says;
using test::TempFolder;
using test::TestChain;

std::vector<std::uint8_t> der_of(X509* certificate) {
  std::vector<std::uint8_t> der(static_cast<std::size_t>(i2d_X509(certificate, nullptr)));
  unsigned char* at = der.data();
  i2d_X509(certificate, &at);
  return der;
}

bool same(const CertificatePtr& a, const CertificatePtr& b) {
  return X509_cmp(a.get(), b.get()) == 0;
}

/// Files of one test, and a request that reads them.
class Files {
 public:
  Files() {
    request.hostname = "derp.example.com";
    request.cert_dir = folder.path();
    request.now = kTestTime;
    // No system's roots: what the test trusts, it says.
    request.trust_file = folder.write("roots.pem", "");
  }

  void trust(const test::TestCertificate& root) const { folder.write("roots.pem", root.pem()); }
  /// As derper has them.
  void install(const std::string& cert_pem, const std::string& key_pem) const {
    folder.write("derp.example.com.crt", cert_pem);
    folder.write("derp.example.com.key", key_pem);
  }
  [[nodiscard]] std::expected<ServerCertificate, std::string> load() const {
    return load_certificate(request);
  }
  /// What the operator is told; fails the test when the certificate is taken.
  [[nodiscard]] std::string refusal() const {
    const auto loaded = load();
    EXPECT_FALSE(loaded.has_value()) << "the certificate was accepted";
    return loaded ? std::string() : loaded.error();
  }

  const TempFolder folder;
  CertificateRequest request;
};

TEST(LoadCertificate, TakesLeafChainAndKeyFromDerpersFiles) {
  const TestChain chain = make_chain();
  const Files files;
  files.trust(chain.root);
  files.install(chain.leaf.pem() + chain.intermediate.pem(), chain.leaf.key_pem());

  const auto loaded = files.load();
  ASSERT_TRUE(loaded.has_value()) << loaded.error();
  EXPECT_TRUE(same(loaded->leaf, chain.leaf.certificate));
  ASSERT_EQ(loaded->chain.size(), 1U);
  EXPECT_TRUE(same(loaded->chain[0], chain.intermediate.certificate));
  EXPECT_EQ(EVP_PKEY_eq(loaded->key.get(), chain.leaf.key.get()), 1);
  EXPECT_FALSE(loaded->self_signed);
  EXPECT_FALSE(loaded->just_made);
  EXPECT_EQ(loaded->names, std::vector<std::string>{"derp.example.com"});
  EXPECT_EQ(loaded->not_after, std::chrono::sys_days{std::chrono::January / 1 / 2027});
  EXPECT_EQ(loaded->cert_file, files.folder.path("derp.example.com.crt"));
  EXPECT_EQ(loaded->notices, std::vector<std::string>{});
  EXPECT_EQ(loaded->warnings, std::vector<std::string>{});
}

TEST(LoadCertificate, FindsLeafAndChainInAnyPemLayout) {
  const TestChain chain = make_chain();
  const auto leaf = chain.leaf.pem();
  const auto intermediate = chain.intermediate.pem();
  const auto root = chain.root.pem();
  const auto key = chain.leaf.key_pem();
  struct Case {
    std::string_view name;
    std::string cert_file;
    std::string key_file;  ///< Empty: none is given.
    std::size_t chain_size;
  };
  const Case kCases[] = {
      {"chain and key apart", leaf + intermediate, key, 1},
      {"reverse order", intermediate + leaf, key, 1},
      {"with its root, in reverse", root + intermediate + leaf, key, 2},
      {"all in one, key first", key + leaf + intermediate, "", 1},
      {"all in one, key between", leaf + key + intermediate, "", 1},
      {"the intermediate beside the key", leaf, key + intermediate, 1},
      {"the two files exchanged", key, leaf + intermediate, 1},
      {"everything twice", leaf + leaf + intermediate + intermediate, key + key, 1},
      {"text around the blocks", "subject=/CN=x\n" + leaf + "\nissuer\n" + intermediate, key, 1},
      {"parameters before the key", leaf + intermediate,
       "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" + key, 1},
      {"SEC1 key", leaf + intermediate, chain.leaf.key_pem(KeyForm::kTraditional), 1},
  };
  for (const auto& [name, cert_file, key_file, chain_size] : kCases) {
    SCOPED_TRACE(name);
    Files files;
    files.trust(chain.root);
    files.request.cert_file = files.folder.write("cert.pem", cert_file);
    if (!key_file.empty()) files.request.key_file = files.folder.write("key.pem", key_file);
    const auto loaded = files.load();
    ASSERT_TRUE(loaded.has_value()) << loaded.error();
    EXPECT_TRUE(same(loaded->leaf, chain.leaf.certificate));
    ASSERT_EQ(loaded->chain.size(), chain_size);
    EXPECT_TRUE(same(loaded->chain[0], chain.intermediate.certificate));
    EXPECT_TRUE(loaded->notices.empty()) << loaded->notices.front();
  }
}

TEST(LoadCertificate, TakesEveryKindOfKey) {
  for (const auto kind : {KeyKind::kEcdsa, KeyKind::kRsa2048, KeyKind::kEd25519}) {
    const TestChain chain = make_chain(
        {.common_name = "derp.example.com", .dns_names = {"derp.example.com"}, .key = kind});
    const Files files;
    files.trust(chain.root);
    files.install(chain.leaf.pem() + chain.intermediate.pem(), chain.leaf.key_pem());
    EXPECT_TRUE(files.load().has_value());
    if (kind != KeyKind::kRsa2048) continue;
    files.install(chain.leaf.pem() + chain.intermediate.pem(),
                  chain.leaf.key_pem(KeyForm::kTraditional));
    EXPECT_TRUE(files.load().has_value()) << "PKCS#1";
  }
}

TEST(LoadCertificate, LeavesUnrelatedCertificatesOutAndSaysSo) {
  const TestChain chain = make_chain();
  const auto stranger = make_certificate({.common_name = "Some Stranger"});
  const Files files;
  files.trust(chain.root);
  files.install(chain.leaf.pem() + stranger.pem() + chain.intermediate.pem(), chain.leaf.key_pem());
  const auto loaded = files.load();
  ASSERT_TRUE(loaded.has_value()) << loaded.error();
  EXPECT_EQ(loaded->chain.size(), 1U);
  ASSERT_EQ(loaded->notices.size(), 1U);
  EXPECT_TRUE(says(loaded->notices[0], "\"Some Stranger\""));
}

TEST(LoadCertificate, PrefersAmongCertificatesOfOneKeyTheOneThatServesNow) {
  TestChain chain = make_chain();
  const auto old = test::renew(chain.leaf,
                               {.common_name = "derp.example.com",
                                .dns_names = {"derp.example.com"},
                                .not_after = kTestTime - seconds(1)},
                               &chain.intermediate);
  const auto other_name = test::renew(
      chain.leaf, {.common_name = "x", .dns_names = {"x.example.com"}}, &chain.intermediate);
  const Files files;
  files.trust(chain.root);
  files.install(other_name.pem() + old.pem() + chain.leaf.pem() + chain.intermediate.pem(),
                chain.leaf.key_pem());
  const auto loaded = files.load();
  ASSERT_TRUE(loaded.has_value()) << loaded.error();
  EXPECT_TRUE(same(loaded->leaf, chain.leaf.certificate));
}

TEST(LoadCertificate, RefusesALeafWithoutItsIntermediateAndSaysHowToMendIt) {
  TestChain chain = make_chain({.common_name = "derp.example.com",
                                .dns_names = {"derp.example.com"},
                                .issuer_url = "http://ca.example.com/i.der"});
  Files files;
  files.trust(chain.root);
  files.install(chain.leaf.pem(), chain.leaf.key_pem());

  const auto said = files.refusal();
  EXPECT_TRUE(says(said, files.folder.path("derp.example.com.crt")));
  EXPECT_TRUE(says(said, "\"Test Intermediate\""));
  EXPECT_TRUE(says(said, "--fullchain-file"));
  EXPECT_TRUE(says(said, "fullchain.pem"));
  EXPECT_TRUE(says(said, "http://ca.example.com/i.der"));
  EXPECT_TRUE(says(said, "--allow-incomplete-chain"));

  files.request.allow_incomplete_chain = true;
  const auto loaded = files.load();
  ASSERT_TRUE(loaded.has_value()) << loaded.error();
  EXPECT_TRUE(loaded->chain.empty());
  ASSERT_EQ(loaded->warnings.size(), 1U);
  EXPECT_TRUE(says(loaded->warnings[0], "without its intermediate"));
}

TEST(LoadCertificate, TakesALeafThatATrustedRootSignedItself) {
  const auto root = make_certificate({.common_name = "Test Root", .is_authority = true});
  const auto leaf =
      make_certificate({.common_name = "x", .dns_names = {"derp.example.com"}}, &root);
  const Files files;
  files.trust(root);
  files.install(leaf.pem(), leaf.key_pem());
  const auto loaded = files.load();
  ASSERT_TRUE(loaded.has_value()) << loaded.error();
  EXPECT_TRUE(loaded->warnings.empty());

  // One of the same name that did not sign it is no issuer.
  files.trust(make_certificate({.common_name = "Test Root", .is_authority = true}));
  EXPECT_TRUE(says(files.refusal(), "without its intermediate"));
}

TEST(LoadCertificate, FindsTrustedRootsBySslCertFile) {
  const auto root = make_certificate({.common_name = "Test Root", .is_authority = true});
  const auto leaf =
      make_certificate({.common_name = "x", .dns_names = {"derp.example.com"}}, &root);
  Files files;
  files.install(leaf.pem(), leaf.key_pem());
  files.request.trust_file.clear();
  EXPECT_TRUE(says(files.refusal(), "without its intermediate"));
  ::setenv("SSL_CERT_FILE", files.folder.write("root.pem", root.pem()).c_str(), 1);
  EXPECT_TRUE(files.load().has_value());
  ::unsetenv("SSL_CERT_FILE");
}

TEST(LoadCertificate, WarnsWhenTheChainEndsAtAStranger) {
  const TestChain chain = make_chain();
  const Files files;
  files.trust(make_certificate({.common_name = "Another Root", .is_authority = true}));
  files.install(chain.leaf.pem() + chain.intermediate.pem(), chain.leaf.key_pem());
  const auto loaded = files.load();
  ASSERT_TRUE(loaded.has_value()) << loaded.error();
  ASSERT_EQ(loaded->warnings.size(), 1U);
  EXPECT_TRUE(says(loaded->warnings[0], "whose issuer \"Test Root\""));
}

TEST(LoadCertificate, ChecksTheDatesToTheSecond) {
  const TestChain chain = make_chain();
  Files files;
  files.trust(chain.root);
  files.install(chain.leaf.pem() + chain.intermediate.pem(), chain.leaf.key_pem());
  const WallTime begin = std::chrono::sys_days{std::chrono::January / 1 / 2026};
  const WallTime end = std::chrono::sys_days{std::chrono::January / 1 / 2027};
  struct Case {
    std::string_view name;
    WallTime now;
    std::string_view says;  ///< Empty: accepted.
  };
  const Case kCases[] = {
      {"a second early", begin - seconds(1), "is not yet valid: it begins at 2026-01-01 00:00:00"},
      {"the first second", begin, ""},
      {"the last second", end, ""},
      {"a second late", end + seconds(1), "expired at 2027-01-01 00:00:00 UTC (now: 2027-01-01"},
  };
  for (const auto& [name, now, expected] : kCases) {
    SCOPED_TRACE(name);
    files.request.now = now;
    if (expected.empty())
      EXPECT_TRUE(files.load().has_value());
    else
      EXPECT_TRUE(says(files.refusal(), expected));
  }
}

TEST(LoadCertificate, ChecksThatTheNameIsCovered) {
  struct Case {
    std::string_view name;
    std::string hostname;
    std::vector<std::string> dns_names;
    std::vector<std::string> ips;
    std::vector<std::string_view> says;  ///< Empty: accepted.
  };
  const Case kCases[] = {
      {"one of several", "b.example.com", {"a.example.com", "b.example.com"}, {}, {}},
      {"in upper case", "derp.example.com", {"DERP.Example.com"}, {}, {}},
      {"wildcard", "derp.example.com", {"*.example.com"}, {}, {}},
      {"another name", "b.example.com", {"a.example.com"}, {}, {"is for a.example.com and"}},
      {"wildcard two labels up", "a.b.example.com", {"*.example.com"}, {}, {"exactly one label"}},
      {"wildcard of the bare name", "example.com", {"*.example.com"}, {}, {"exactly one label"}},
      {"partial wildcard", "derp1.example.com", {"derp*.example.com"}, {}, {"does not cover"}},
      {"no names", "derp.example.com", {}, {}, {"no name at all", "its common name is that"}},
      {"address", "203.0.113.7", {}, {"203.0.113.7"}, {}},
      {"IPv6 address", "2001:db8::1", {}, {"2001:db8::1"}, {}},
      {"another address", "203.0.113.7", {}, {"203.0.113.8"}, {"is for 203.0.113.8 and"}},
      {"address as a name", "203.0.113.7", {"203.0.113.7"}, {}, {"as a DNS name"}},
      {"name for an address", "203.0.113.7", {"a.example.com"}, {}, {"want it as an IP address"}},
  };
  for (const auto& [name, hostname, dns_names, ips, expected] : kCases) {
    SCOPED_TRACE(name);
    const TestChain chain =
        make_chain({.common_name = hostname, .dns_names = dns_names, .ips = ips});
    Files files;
    files.trust(chain.root);
    files.request.hostname = hostname;
    files.request.cert_file = files.folder.write(
        "all.pem", chain.leaf.pem() + chain.intermediate.pem() + chain.leaf.key_pem());
    if (expected.empty()) {
      const auto loaded = files.load();
      EXPECT_TRUE(loaded.has_value()) << loaded.error();
      continue;
    }
    const auto said = files.refusal();
    for (const auto part : expected) EXPECT_TRUE(says(said, part));
    EXPECT_TRUE(says(said, "--hostname"));
  }
}

TEST(LoadCertificate, RefusesFilesThatCannotBeUsed) {
  const TestChain chain = make_chain();
  const auto cert = chain.leaf.pem() + chain.intermediate.pem();
  const auto key = chain.leaf.key_pem();
  const auto other = make_certificate({.common_name = "other"});
  auto damaged = cert;
  damaged.replace(damaged.find("MII"), 3, "NII");
  const auto der = der_of(chain.leaf.certificate.get());
  std::string bundle;
  for (int i = 0; i < 65; ++i) bundle += chain.root.pem();
  struct Case {
    std::string_view name;
    std::string cert;
    std::string key;
    std::vector<std::string_view> says;
  };
  const Case kCases[] = {
      {"another key", cert, other.key_pem(), {".key does not match", "derp.example.com"}},
      {"empty certificate", "", key, {".crt: is empty"}},
      {"empty key", cert, "", {".key: is empty"}},
      {"no PEM", "hello", key, {".crt: is not PEM"}},
      {"key without PEM", cert, "hello", {".key: is not PEM"}},
      {"both", "hello", "hello", {".crt: is not PEM", ".key: is not PEM"}},
      {"cut off", cert.substr(0, 300), key, {".crt: PEM block 1 is damaged"}},
      {"damaged", damaged, key, {".crt: PEM block 1 is not a certificate"}},
      {"binary form", std::string(der.begin(), der.end()), key, {".crt: is in binary form"}},
      {"two keys and no certificate", key, key, {".crt holds a private key and no certificate"}},
      {"the certificate as key", cert, cert, {".key holds a private key"}},
      {"PKCS#8 encrypted", cert, chain.leaf.key_pem(KeyForm::kEncrypted), {"openssl pkey -in"}},
      {"SEC1 encrypted",
       cert,
       chain.leaf.key_pem(KeyForm::kTraditionalEncrypted),
       {"is encrypted"}},
      {"a request",
       "-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n-----END CERTIFICATE REQUEST-----\n",
       key,
       {"is a certificate request"}},
      {"a public key",
       cert,
       "-----BEGIN PUBLIC KEY-----\nMAA=\n-----END PUBLIC KEY-----\n",
       {"is a public key"}},
      {"a bundle of roots", bundle, key, {"holds more than 64 PEM blocks"}},
  };
  for (const auto& [name, cert_text, key_text, expected] : kCases) {
    SCOPED_TRACE(name);
    const Files files;
    files.trust(chain.root);
    files.install(cert_text, key_text);
    const auto said = files.refusal();
    EXPECT_TRUE(says(said, files.folder.path()));
    for (const auto part : expected) EXPECT_TRUE(says(said, part));
  }
}

TEST(LoadCertificate, SaysEverythingThatIsWrongAtOnce) {
  const TestChain chain = make_chain();
  Files files;
  files.trust(chain.root);
  files.request.hostname = "b.example.com";
  files.request.now = kTestTime + std::chrono::years(2);
  files.request.cert_file = files.folder.write("all.pem", chain.leaf.pem() + chain.leaf.key_pem());
  const auto said = files.refusal();
  EXPECT_TRUE(says(said, "expired at"));
  EXPECT_TRUE(says(said, "does not cover"));
  EXPECT_TRUE(says(said, "without its intermediate"));
}

TEST(LoadCertificate, SaysWhichFilesAreMissingForADnsName) {
  Files files;
  files.request.cert_dir_setting = "-certdir";
  const auto crt = files.folder.path("derp.example.com.crt");
  const auto key = files.folder.path("derp.example.com.key");
  const auto none = files.refusal();
  EXPECT_TRUE(says(none, crt + " and " + key + " do not exist (-certdir)"));
  EXPECT_TRUE(says(none, "--fullchain-file " + crt));

  files.folder.write("derp.example.com.crt", "x");
  EXPECT_TRUE(says(files.refusal(), crt + " exists and " + key + " does not"));
  std::filesystem::remove(crt);
  files.folder.write("derp.example.com.key", "x");
  EXPECT_TRUE(says(files.refusal(), key + " exists and " + crt + " does not"));
}

TEST(LoadCertificate, NamesTheUserWhoMayNotReadTheKey) {
  const TestChain chain = make_chain();
  const Files files;
  files.trust(chain.root);
  files.install(chain.leaf.pem() + chain.intermediate.pem(), chain.leaf.key_pem());
  std::filesystem::permissions(files.folder.path("derp.example.com.key"),
                               std::filesystem::perms::none);
  const auto said = test::run_unprivileged([&] {
    const auto loaded = files.load();
    return loaded ? std::string("accepted") : loaded.error();
  });
  EXPECT_TRUE(says(said, files.folder.path("derp.example.com.key")));
  EXPECT_TRUE(says(said, "may not read it"));
}

TEST(LoadCertificate, WarnsOfWhatWillStopWorking) {
  struct Case {
    std::string_view name;
    test::CertificateSpec leaf;
    WallTime now;
    std::string_view says;  ///< Empty: no warning.
  };
  const WallTime end = std::chrono::sys_days{std::chrono::January / 1 / 2027};
  const test::CertificateSpec plain{.common_name = "x", .dns_names = {"derp.example.com"}};
  auto weak_key = plain;
  weak_key.key = KeyKind::kRsa1024;
  auto good_key = plain;
  good_key.key = KeyKind::kRsa2048;
  auto weak_signature = plain;
  weak_signature.sha1 = true;
  const Case kCases[] = {
      {"14 days left", plain, end - std::chrono::days(14), ""},
      {"a second less", plain, end - std::chrono::days(14) + seconds(1), "expires in 13 days"},
      {"RSA with 2048 bits", good_key, kTestTime, ""},
      {"RSA with 1024 bits", weak_key, kTestTime, "RSA key of 1024 bits"},
      {"SHA-1", weak_signature, kTestTime, "signed with SHA-1"},
  };
  for (const auto& [name, leaf, now, expected] : kCases) {
    SCOPED_TRACE(name);
    const TestChain chain = make_chain(leaf);
    Files files;
    files.trust(chain.root);
    files.request.now = now;
    files.install(chain.leaf.pem() + chain.intermediate.pem(), chain.leaf.key_pem());
    const auto loaded = files.load();
    ASSERT_TRUE(loaded.has_value()) << loaded.error();
    EXPECT_EQ(loaded->warnings.size(), expected.empty() ? 0U : 1U);
    EXPECT_TRUE(says(loaded->warnings, expected));
  }
}

TEST(LoadCertificate, NotesThatASelfSignedOneForANameNeedsItsPin) {
  const auto own = make_certificate({.common_name = "x", .dns_names = {"derp.example.com"}});
  const Files files;
  files.install(own.pem(), own.key_pem());
  const auto loaded = files.load();
  ASSERT_TRUE(loaded.has_value()) << loaded.error();
  EXPECT_TRUE(loaded->self_signed);
  EXPECT_TRUE(loaded->chain.empty());
  EXPECT_TRUE(says(loaded->notices, loaded->pin));
}

TEST(LoadCertificate, ReadsDatesBeyondTheEndOfTheClock) {
  const auto own = make_certificate({.common_name = "x", .dns_names = {"derp.example.com"}});
  ASN1_TIME_set_string_X509(X509_getm_notAfter(own.certificate.get()), "99991231235959Z");
  ASSERT_GT(X509_sign(own.certificate.get(), own.key.get(), EVP_sha256()), 0);
  const Files files;
  files.install(own.pem(), own.key_pem());
  const auto loaded = files.load();
  ASSERT_TRUE(loaded.has_value()) << loaded.error();
  EXPECT_GT(loaded->not_after, kTestTime);
}

// --- Self-signed

TEST(LoadCertificate, MakesAndKeepsACertificateForAnAddress) {
  for (const std::string ip : {"203.0.113.7", "2001:db8::1"}) {
    SCOPED_TRACE(ip);
    Files files;
    files.request.hostname = ip;
    files.request.cert_dir = files.folder.path("state/certs");
    const auto made = files.load();
    ASSERT_TRUE(made.has_value()) << made.error();
    EXPECT_TRUE(made->just_made);
    EXPECT_TRUE(made->self_signed);
    EXPECT_EQ(test::mode_of(files.request.cert_dir), 0700U);
    EXPECT_EQ(test::mode_of(made->cert_file), 0644U);
    EXPECT_EQ(test::mode_of(made->key_file), 0600U);
    EXPECT_TRUE(test::read_all(made->key_file).starts_with("-----BEGIN EC PRIVATE KEY-----\n"));
    EXPECT_EQ(made->cert_file, files.request.cert_dir + "/" + certificate_file_stem(ip) + ".crt");

    const auto again = files.load();
    ASSERT_TRUE(again.has_value()) << again.error();
    EXPECT_FALSE(again->just_made);
    EXPECT_EQ(again->pin, made->pin);
    EXPECT_EQ(again->names, std::vector<std::string>{ip});
    EXPECT_TRUE(again->notices.empty());
  }
}

TEST(LoadCertificate, NeverOverwritesALoneFileOfThePair) {
  for (const bool keep_cert : {true, false}) {
    Files files;
    files.request.hostname = "203.0.113.7";
    ASSERT_TRUE(files.load().has_value());
    const auto crt = files.folder.path("203.0.113.7.crt");
    const auto key = files.folder.path("203.0.113.7.key");
    std::filesystem::remove(keep_cert ? key : crt);
    const auto kept = keep_cert ? crt : key;
    const auto before = test::read_all(kept);
    const auto said = files.refusal();
    EXPECT_TRUE(says(said, crt));
    EXPECT_TRUE(says(said, key));
    EXPECT_EQ(test::read_all(kept), before);
    EXPECT_FALSE(std::filesystem::exists(keep_cert ? key : crt));
  }
}

TEST(LoadCertificate, LeavesNothingWhenTheFolderCannotBeWritten) {
  Files files;
  files.request.hostname = "203.0.113.7";
  files.request.cert_dir = files.folder.path("closed");
  std::filesystem::create_directory(files.request.cert_dir);
  std::filesystem::permissions(files.request.cert_dir, std::filesystem::perms(0555));
  const auto said = test::run_unprivileged([&] { return files.refusal(); });
  EXPECT_TRUE(says(said, "may not write in folder " + files.request.cert_dir));
  EXPECT_TRUE(std::filesystem::is_empty(files.request.cert_dir));
}

TEST(MakeSelfSigned, HasWhatPinningClientsCheck) {
  const auto made = make_self_signed("203.0.113.7", kTestTime);
  ASSERT_TRUE(made.has_value()) << made.error();
  X509* leaf = made->leaf.get();
  EXPECT_EQ(X509_get_version(leaf), 2);
  EXPECT_EQ(EVP_PKEY_get_bits(made->key.get()), 256);
  EXPECT_EQ(X509_check_ip_asc(leaf, "203.0.113.7", 0), 1);
  EXPECT_EQ(made->names, std::vector<std::string>{"203.0.113.7"});
  EXPECT_EQ(X509_get_key_usage(leaf),
            static_cast<std::uint32_t>(KU_DIGITAL_SIGNATURE | KU_KEY_ENCIPHERMENT));
  EXPECT_EQ(X509_get_extended_key_usage(leaf), static_cast<std::uint32_t>(XKU_SSL_SERVER));
  EXPECT_EQ(X509_check_ca(leaf), 0);
  EXPECT_EQ(X509_get_ext_count(leaf), 4);
  EXPECT_EQ(made->not_before, kTestTime - std::chrono::days(1));
  EXPECT_EQ(made->not_after, kTestTime + std::chrono::days(3652));
  EXPECT_EQ(X509_verify(leaf, made->key.get()), 1);
  EXPECT_EQ(made->pin, certificate_pin(leaf));

  const auto other = make_self_signed("203.0.113.7", kTestTime);
  EXPECT_NE(
      ASN1_INTEGER_cmp(X509_get0_serialNumber(leaf), X509_get0_serialNumber(other->leaf.get())), 0);
}

TEST(MakeSelfSigned, RefusesWhatIsNotAnAddress) {
  for (const auto text : {"", "derp.example.com", "1.2.3", "[::1]", "1.2.3.4:443"})
    EXPECT_FALSE(make_self_signed(text, kTestTime).has_value()) << text;
}

TEST(CertificatePin, IsTheHashOfTheDer) {
  const auto made = make_self_signed("203.0.113.7", kTestTime);
  const auto der = der_of(made->leaf.get());
  std::array<std::uint8_t, 32> digest{};
  ASSERT_EQ(EVP_Digest(der.data(), der.size(), digest.data(), nullptr, EVP_sha256(), nullptr), 1);
  EXPECT_EQ(made->pin, "sha256-raw:" + test::hex(digest));
}

TEST(CertificateFileStem, LeavesOutWhatDerperLeavesOut) {
  struct Case {
    std::string_view hostname;
    std::string_view stem;
  };
  constexpr Case kCases[] = {
      {"derp.example.com", "derp.example.com"},
      {"DERP-1.Example.com", "DERP-1.Example.com"},
      {"203.0.113.7", "203.0.113.7"},
      {"2001:db8::1", "2001db81"},
      {"../etc/passwd", "..etcpasswd"},
      {"a_b*c d", "abcd"},
      {"", ""},
  };
  for (const auto& [hostname, stem] : kCases) EXPECT_EQ(certificate_file_stem(hostname), stem);
}

// --- Meta certificate

constexpr std::string_view kRelayKeyHex =
    "7b4e909bbe7ffe44c465a220037d608ee35897d31ef972f07f74892cb0f73f13";

TEST(MakeMetaCertificate, IsByteForByteTheExampleOfTheProtocolDocument) {
  const auto golden = test::unhex(
      "3082016330820115a003020102020102300506032b657030523150304e060355"
      "04031347646572706b6579376234653930396262653766666534346334363561"
      "3232303033376436303865653335383937643331656639373266303766373438"
      "3932636230663733663133301e170d3236303130313030303030305a170d3236"
      "303330323030303030305a30523150304e06035504031347646572706b657937"
      "6234653930396262653766666534346334363561323230303337643630386565"
      "3335383937643331656639373266303766373438393263623066373366313330"
      "2a300506032b657003210003a107bff3ce10be1d70dd18e74bc09967e4d6309b"
      "a50d5f1ddc8664125531b8a310300e300c0603551d130101ff04023000300506"
      "032b65700341006207f3f88067c1239b27628b2d7913b8dc6e9a10adc07b8a3b"
      "772f76bb134200a4c55b5ccf8768fded9cb4a7037d3c4c0745cca2c85f16ceee"
      "01be0660e3300b");
  std::array<std::uint8_t, 32> seed{};
  std::iota(seed.begin(), seed.end(), std::uint8_t{0});
  const auto made = make_meta_certificate(
      kRelayKeyHex, {.not_before = std::chrono::sys_days{std::chrono::January / 1 / 2026},
                     .not_after = std::chrono::sys_days{std::chrono::March / 2 / 2026},
                     .ed25519_seed = seed});
  EXPECT_EQ(test::hex(der_of(made.get())), test::hex(golden));
}

TEST(MakeMetaCertificate, IsValidThirtyDaysAroundNowWithAFreshKey) {
  const auto a = make_meta_certificate(kRelayKeyHex, kTestTime);
  const auto b = make_meta_certificate(kRelayKeyHex, kTestTime);
  EXPECT_EQ(der_of(a.get()).size(), 359U);
  EXPECT_EQ(EVP_PKEY_eq(X509_get0_pubkey(a.get()), X509_get0_pubkey(b.get())), 0);
  std::time_t begin = std::chrono::system_clock::to_time_t(kTestTime - std::chrono::days(30));
  std::time_t end = std::chrono::system_clock::to_time_t(kTestTime + std::chrono::days(30));
  EXPECT_EQ(ASN1_TIME_cmp_time_t(X509_get0_notBefore(a.get()), begin), 0);
  EXPECT_EQ(ASN1_TIME_cmp_time_t(X509_get0_notAfter(a.get()), end), 0);
}

}  // namespace
}  // namespace detour::acme
