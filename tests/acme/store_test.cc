#include "acme/store.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "acme/pem.h"
#include "support/certificates.h"
#include "support/says.h"
#include "support/temp_folder.h"

namespace detour::acme {
namespace {

using test::kTestTime;
using test::says;
using test::TempFolder;

constexpr std::string_view kDirectory = "https://ca/directory";
const Identifier kName{.value = "derp.example.com"};
const Identifier kIpv6{.value = "2001:db8::7", .is_ip = true};

/// What an authority gives for `identifier`.
IssuedCertificate issue(const Identifier& identifier) {
  test::CertificateSpec spec{.common_name = "x"};
  (identifier.is_ip ? spec.ips : spec.dns_names).push_back(identifier.value);
  auto chain = test::make_chain(spec);
  return {.key = std::move(chain.leaf.key),
          .chain_pem = chain.leaf.pem() + chain.intermediate.pem()};
}

class StoreTest : public testing::Test {
 protected:
  TempFolder folder_;
  CertificateStore store_{folder_.path("certs"), std::string(kDirectory)};
};

TEST_F(StoreTest, KeepsANameInDerpersLayout) {
  const auto saved = store_.save(kName, issue(kName), kTestTime);
  ASSERT_TRUE(saved.has_value()) << saved.error();
  const auto path = folder_.path("certs/derp.example.com");
  EXPECT_EQ(test::mode_of(path), 0600U);
  EXPECT_EQ(test::mode_of(folder_.path("certs")), 0700U);
  const auto text = test::read_all(path);
  EXPECT_TRUE(
      text.starts_with("ACME directory: https://ca/directory\n"
                       "-----BEGIN EC PRIVATE KEY-----\n"))
      << "derper wants the key first, and passes over what is no PEM";
  const auto loaded = store_.load(kName, kTestTime);
  ASSERT_TRUE(loaded.has_value()) << loaded.error();
  ASSERT_TRUE(loaded->has_value());
  EXPECT_EQ((*loaded)->certificate.pin, saved->pin);
  EXPECT_EQ((*loaded)->certificate.chain.size(), 1U);
  EXPECT_FALSE((*loaded)->from_elsewhere);
  EXPECT_TRUE((*loaded)->certificate.warnings.empty());
}

TEST_F(StoreTest, KeepsAnAddressInTwoFiles) {
  ASSERT_TRUE(store_.save(kIpv6, issue(kIpv6), kTestTime).has_value());
  EXPECT_EQ(test::mode_of(folder_.path("certs/2001.db8..7.key")), 0600U);
  EXPECT_TRUE(std::filesystem::exists(folder_.path("certs/2001.db8..7.crt")));
  const auto loaded = store_.load(kIpv6, kTestTime);
  ASSERT_TRUE(loaded.has_value() && loaded->has_value());
}

TEST_F(StoreTest, HasNothingAtFirst) {
  const auto loaded = store_.load(kName, kTestTime);
  ASSERT_TRUE(loaded.has_value());
  EXPECT_FALSE(loaded->has_value());
}

TEST_F(StoreTest, TakesWhatDerperKept) {
  std::filesystem::create_directory(folder_.path("certs"));
  const auto issued = issue(kName);
  folder_.write("certs/derp.example.com", to_pem(issued.key.get()) + issued.chain_pem);
  const auto loaded = store_.load(kName, kTestTime);
  ASSERT_TRUE(loaded.has_value() && loaded->has_value());
  EXPECT_FALSE((*loaded)->from_elsewhere);
}

TEST_F(StoreTest, KnowsACertificateFromAnotherServer) {
  const CertificateStore staging(folder_.path("certs"), "https://staging/directory");
  ASSERT_TRUE(staging.save(kName, issue(kName), kTestTime).has_value());
  const auto loaded = store_.load(kName, kTestTime);
  ASSERT_TRUE(loaded.has_value() && loaded->has_value());
  EXPECT_TRUE((*loaded)->from_elsewhere);
}

TEST_F(StoreTest, SaysWhatIsWrongWithADamagedOne) {
  ASSERT_TRUE(store_.save(kName, issue(kName), kTestTime).has_value());
  folder_.write("certs/derp.example.com", "nonsense");
  const auto loaded = store_.load(kName, kTestTime);
  ASSERT_FALSE(loaded.has_value());
  EXPECT_TRUE(says(loaded.error(), "certs/derp.example.com"));
}

TEST_F(StoreTest, DoesNotLoadOneThatHasExpired) {
  ASSERT_TRUE(store_.save(kName, issue(kName), kTestTime).has_value());
  const auto loaded = store_.load(kName, kTestTime + std::chrono::days(365));
  ASSERT_FALSE(loaded.has_value());
  EXPECT_TRUE(says(loaded.error(), "expired"));
}

TEST_F(StoreTest, KeepsTheOldOneWhenTheNewOneIsOfNoUse) {
  const auto good = store_.save(kName, issue(kName), kTestTime);
  ASSERT_TRUE(good.has_value());
  auto other_name = issue({.value = "other.example.com"});
  const auto refused = store_.save(kName, other_name, kTestTime);
  ASSERT_FALSE(refused.has_value());
  EXPECT_TRUE(says(refused.error(), "does not cover"));
  auto other_key = issue(kName);
  other_key.key = new_certificate_key();
  EXPECT_FALSE(store_.save(kName, other_key, kTestTime).has_value());
  EXPECT_FALSE(
      store_.save(kName, {.key = new_certificate_key(), .chain_pem = "<html>"}, kTestTime));
  EXPECT_EQ((*store_.load(kName, kTestTime))->certificate.pin, good->pin);
}

TEST_F(StoreTest, SetsAPinnedCertificateAsideInsteadOfLosingIt) {
  const Identifier ip{.value = "192.0.2.7", .is_ip = true};
  const auto pinned = load_certificate({.hostname = ip.value,
                                        .cert_dir = folder_.path("certs"),
                                        .cert_file = "",
                                        .key_file = "",
                                        .trust_file = "",
                                        .now = kTestTime});
  ASSERT_TRUE(pinned.has_value()) << pinned.error();
  const auto key = test::read_all(folder_.path("certs/192.0.2.7.key"));
  const auto loaded = store_.load(ip, kTestTime);
  ASSERT_TRUE(loaded.has_value());
  EXPECT_FALSE(loaded->has_value()) << "no authority gave it";
  ASSERT_TRUE(store_.save(ip, issue(ip), kTestTime).has_value());
  EXPECT_EQ(test::read_all(folder_.path("certs/192.0.2.7.key.pinned")), key);
  EXPECT_TRUE(std::filesystem::exists(folder_.path("certs/192.0.2.7.crt.pinned")));
}

TEST_F(StoreTest, MakesTheAccountOnceAndFindsDerpers) {
  const auto made = store_.account_key();
  ASSERT_TRUE(made.has_value()) << made.error();
  EXPECT_EQ(test::mode_of(folder_.path("certs/acme_account+key")), 0600U);
  EXPECT_EQ(store_.account_key()->jwk(), made->jwk());

  std::filesystem::rename(folder_.path("certs/acme_account+key"),
                          folder_.path("certs/acme-account.key"));
  EXPECT_EQ(store_.account_key()->jwk(), made->jwk()) << "derper's account for addresses";
}

TEST_F(StoreTest, ReplacesNoAccountThatIsDamaged) {
  std::filesystem::create_directory(folder_.path("certs"));
  const auto path = folder_.write("certs/acme_account+key", "nonsense");
  const auto refused = store_.account_key();
  ASSERT_FALSE(refused.has_value());
  EXPECT_TRUE(says(refused.error(), path));
  EXPECT_EQ(test::read_all(path), "nonsense");
}

}  // namespace
}  // namespace detour::acme
