#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "acme/keeper.h"
#include "support/certificates.h"
#include "support/says.h"
#include "support/temp_folder.h"

namespace detour::acme {
namespace {

using test::says;
using test::TempFolder;
using namespace std::chrono_literals;

/// Keeps what is logged and served; waited for.
class Events final : public Log {
 public:
  void write(LogLevel /*level*/, std::string_view message) override {
    const std::lock_guard lock(mutex_);
    lines_.emplace_back(message);
  }
  void served(const std::string& pin) {
    const std::lock_guard lock(mutex_);
    pins_.push_back(pin);
  }
  [[nodiscard]] std::vector<std::string> lines() const {
    const std::lock_guard lock(mutex_);
    return lines_;
  }
  [[nodiscard]] std::vector<std::string> pins() const {
    const std::lock_guard lock(mutex_);
    return pins_;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> lines_;
  std::vector<std::string> pins_;
};

bool eventually(const std::function<bool()>& is_so) {
  const auto deadline = std::chrono::steady_clock::now() + 30s;
  while (!is_so()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(1ms);
  }
  return true;
}

/// A leaf for derp.example.com that is valid now, below its own authority.
struct Issued {
  std::string cert_pem;
  std::string key_pem;
  std::string pin;
};
Issued issue(std::chrono::days life = std::chrono::days(90)) {
  const auto now = std::chrono::system_clock::now();
  const test::CertificateSpec spec{.common_name = "derp.example.com",
                                   .dns_names = {"derp.example.com"},
                                   .not_before = now - std::chrono::days(2),
                                   .not_after = now - std::chrono::days(1) + life};
  test::CertificateSpec authority{.common_name = "authority", .is_authority = true};
  authority.not_before = spec.not_before;
  authority.not_after = now + std::chrono::days(900);
  const auto root = test::make_certificate(authority);
  const auto leaf = test::make_certificate(spec, &root);
  return {.cert_pem = leaf.pem() + root.pem(),
          .key_pem = leaf.key_pem(),
          .pin = certificate_pin(leaf.certificate.get())};
}

class KeepFiles : public testing::Test {
 protected:
  KeepFiles() {
    install(issue());
    request_.hostname = "derp.example.com";
    request_.cert_dir = folder_.path();
    request_.trust_file = folder_.write("roots.pem", "");
    auto loaded = load_certificate(request_);
    EXPECT_TRUE(loaded.has_value()) << loaded.error();
    current_ = std::move(*loaded);
    keeper_ = keep_files(
        request_, current_,
        {.serve =
             [this](std::span<const KeptCertificate> kept) -> std::expected<void, std::string> {
           if (refuse_) return std::unexpected("OpenSSL refuses it");
           EXPECT_EQ(kept.size(), 1U);
           EXPECT_EQ(kept.front().identifier.value, "derp.example.com");
           events_.served(kept.front().certificate.pin);
           return {};
         },
         .waiting_for = [](const std::string&) { ADD_FAILURE(); }},
        events_, 2ms);
  }
  void install(const Issued& issued) {
    folder_.write("derp.example.com.crt", issued.cert_pem);
    folder_.write("derp.example.com.key", issued.key_pem);
  }
  [[nodiscard]] CertificateStatus status() const { return keeper_->status().front(); }

  TempFolder folder_;
  Events events_;
  CertificateRequest request_;
  ServerCertificate current_;
  std::atomic<bool> refuse_{false};
  std::unique_ptr<CertificateKeeper> keeper_;
};

TEST_F(KeepFiles, ServesNewFilesWithoutBeingAsked) {
  EXPECT_TRUE(status().serving);
  EXPECT_EQ(status().not_after, current_.not_after);
  const auto next = issue(std::chrono::days(60));
  install(next);
  ASSERT_TRUE(eventually([&] { return !events_.pins().empty(); }));
  EXPECT_EQ(events_.pins().back(), next.pin);
  ASSERT_TRUE(eventually([&] { return status().not_after < current_.not_after; }));
  EXPECT_TRUE(eventually([&] { return !events_.lines().empty(); }));
  EXPECT_TRUE(says(events_.lines(), "is served from now on"));
  EXPECT_EQ(status().failures, 0U);
}

TEST_F(KeepFiles, SaysWhatIsWrongWithNewOnesOnceAndTakesTheNextGoodOnes) {
  const auto expired = issue(std::chrono::days(0));
  folder_.write("derp.example.com.key", expired.key_pem);
  folder_.write("derp.example.com.crt", expired.cert_pem);
  ASSERT_TRUE(eventually([&] { return says(status().last_error, "expired"); }));
  // The same again, as a renewal job that is stuck would.
  const auto before = status().attempts;
  std::filesystem::rename(folder_.write("again", expired.cert_pem + "\n"),
                          folder_.path("derp.example.com.crt"));
  ASSERT_TRUE(eventually([&] { return status().attempts > before; }));
  // Between the two files of the first time it may have seen, and said, that they do not match.
  int said = 0;
  for (const auto& line : events_.lines()) said += says(line, "expired");
  EXPECT_EQ(said, 1);
  EXPECT_TRUE(events_.pins().empty());
  EXPECT_EQ(status().not_after, current_.not_after);

  const auto good = issue();
  install(good);
  ASSERT_TRUE(eventually([&] { return !events_.pins().empty(); }));
  EXPECT_EQ(events_.pins(), std::vector<std::string>{good.pin});
  EXPECT_TRUE(eventually([&] { return status().last_error.empty(); }));
}

TEST_F(KeepFiles, GoesOnWhenFilesVanishAndMakesNone) {
  std::filesystem::remove(folder_.path("derp.example.com.crt"));
  std::filesystem::remove(folder_.path("derp.example.com.key"));
  ASSERT_TRUE(eventually([&] { return !status().last_error.empty(); }));
  EXPECT_FALSE(std::filesystem::exists(folder_.path("derp.example.com.crt")));
  EXPECT_TRUE(events_.pins().empty());
}

TEST_F(KeepFiles, ReadsUnchangedFilesWhenAskedAndServesNothingAnew) {
  keeper_->check_now();
  ASSERT_TRUE(eventually([&] { return status().attempts == 1; }));
  EXPECT_TRUE(events_.pins().empty());
  EXPECT_EQ(status().failures, 0U);
}

TEST_F(KeepFiles, GoesOnWithFilesOfOtherNames) {
  const auto other = issue();
  CertificateRequest request;
  request.cert_file = folder_.write("other.pem", other.cert_pem + other.key_pem);
  keeper_->check_now(request);
  ASSERT_TRUE(eventually([&] { return !events_.pins().empty(); }));
  EXPECT_EQ(events_.pins().back(), other.pin);
  const auto next = issue();
  folder_.write("other.pem", next.cert_pem + next.key_pem);
  ASSERT_TRUE(eventually([&] { return events_.pins().back() == next.pin; }));
}

TEST_F(KeepFiles, CountsWhatCannotBeServed) {
  refuse_ = true;
  install(issue());
  ASSERT_TRUE(eventually([&] { return says(status().last_error, "OpenSSL refuses it"); }));
  refuse_ = false;
  keeper_->check_now();
  EXPECT_TRUE(eventually([&] { return !events_.pins().empty(); }));
}

TEST(KeepFilesForAnAddress, MakesNoNewPairWhenThePinnedOneIsLost) {
  const TempFolder folder;
  CertificateRequest request;
  request.hostname = "192.0.2.7";
  request.cert_dir = folder.path();
  const auto made = load_certificate(request);
  ASSERT_TRUE(made.has_value());
  Events events;
  const auto keeper = keep_files(
      request, *made,
      {.serve = [](std::span<const KeptCertificate>) -> std::expected<void, std::string> {
         return {};
       },
       .waiting_for = [](const std::string&) {}},
      events, 2ms);
  std::filesystem::remove(folder.path("192.0.2.7.crt"));
  std::filesystem::remove(folder.path("192.0.2.7.key"));
  ASSERT_TRUE(eventually([&] { return keeper->status().front().failures > 0; }));
  EXPECT_FALSE(std::filesystem::exists(folder.path("192.0.2.7.key")));
}

}  // namespace
}  // namespace detour::acme
