// Admission on a whole relay: who is let in, who is told off, who is cut off.

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "support/frames.h"
#include "support/temp_folder.h"
#include "support/test_relay.h"

namespace detour::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

bool was_logged(const TestRelay& relay, std::string_view text) {
  return wait_until([&] {
    return std::ranges::any_of(relay.log().lines(),
                               [&](const std::string& line) { return line.contains(text); });
  });
}

class AllowFile : public testing::Test {
 protected:
  AllowFile() { allow({&good_}); }

  void allow(std::initializer_list<const crypto::NodePrivate*> keys) {
    std::string content = "# who may come in\n";
    for (const auto* const key : keys) content += key->public_key().typed() + "\n";
    folder_.write("allow", content);
  }
  void start(bool with_allow_file = true) {
    relay_ = std::make_unique<TestRelay>(
        TestRelay::Options{.workers = 2, .configure = [&](config::Config& config) {
                             if (with_allow_file) config.allow_file = folder_.path("allow");
                           }});
  }
  [[nodiscard]] bool can_log_in(const crypto::NodePrivate& key) const {
    return client::Client::dial(relay_->dial_options(key)).has_value();
  }
  /// Whether the client's connection ends; reads what comes before.
  static bool ends(client::Client& client) {
    const TimePoint deadline = Clock::now() + kPatience;
    while (Clock::now() < deadline) {
      if (!client.receive(milliseconds(100))) return true;
    }
    return false;
  }

  TempFolder folder_;
  crypto::NodePrivate good_ = crypto::NodePrivate::generate();
  crypto::NodePrivate other_ = crypto::NodePrivate::generate();
  std::unique_ptr<TestRelay> relay_;
};

TEST_F(AllowFile, LetsInWhoIsInItAndNobodyElse) {
  start();
  const auto client = relay_->dial(good_);
  ASSERT_TRUE(client->ping(kPatience).has_value());
  EXPECT_FALSE(can_log_in(other_));
  EXPECT_TRUE(was_logged(*relay_, "client " + other_.public_key().typed() +
                                      " from 127.0.0.1 refused: its key is not in the allow file"));
  EXPECT_EQ(relay_->metric(R"(detour_admission_logins_total{result="allowed"})"), 1U);
  EXPECT_GE(relay_->metric(R"(detour_admission_logins_total{result="denied"})"), 1U);
  EXPECT_EQ(relay_->metric("detour_admission_allow_file_keys"), 1U);
  EXPECT_EQ(relay_->metric("derp_current_connections"), 1U);
}

TEST_F(AllowFile, WhoIsTakenOutIsCutOffAndWhoIsPutInComesIn) {
  start();
  const auto client = relay_->dial(good_);
  ASSERT_TRUE(client->ping(kPatience).has_value());
  allow({&other_});
  EXPECT_TRUE(ends(*client));
  EXPECT_TRUE(was_logged(*relay_, "client " + good_.public_key().typed() +
                                      " from 127.0.0.1 cut off: its key is not in the allow file"));
  EXPECT_EQ(relay_->metric("detour_admission_cut_off_total"), 1U);
  EXPECT_TRUE(wait_until([&] { return can_log_in(other_); }));
  EXPECT_FALSE(can_log_in(good_));
}

TEST_F(AllowFile, ThatIsSetLaterChecksWhoIsThere) {
  start(/*with_allow_file=*/false);
  const auto good = relay_->dial(good_);
  const auto other = relay_->dial(other_);
  ASSERT_TRUE(other->ping(kPatience).has_value());

  config::Config changed = relay_->config();
  changed.allow_file = folder_.path("allow");
  relay_->relay().reload(changed);
  EXPECT_TRUE(ends(*other));
  EXPECT_TRUE(good->ping(kPatience).has_value());
  EXPECT_FALSE(can_log_in(other_));

  changed.allow_file.clear();
  relay_->relay().reload(changed);
  EXPECT_TRUE(wait_until([&] { return can_log_in(other_); }));
}

TEST_F(AllowFile, ThatIsUnusableAtAReloadChangesNothing) {
  start();
  config::Config changed = relay_->config();
  changed.allow_file = folder_.path("none");
  relay_->relay().reload(changed);
  EXPECT_TRUE(was_logged(*relay_, "none: does not exist"));
  EXPECT_TRUE(was_logged(*relay_, "clients are checked as before"));
  EXPECT_TRUE(can_log_in(good_));
  EXPECT_FALSE(can_log_in(other_));
}

TEST_F(AllowFile, ManyLoginsAtOnceAndClientsThatGiveUpLeaveNothingBehind) {
  start();
  std::vector<std::jthread> threads;
  std::atomic<int> let_in{0};
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < 15; ++round) {
        auto options = relay_->dial_options(i % 2 == 0 ? good_ : crypto::NodePrivate::generate());
        if (i % 4 == 3) options.timeout = milliseconds(1 + round);
        if (client::Client::dial(options)) ++let_in;
      }
    });
  }
  threads.clear();
  EXPECT_EQ(let_in.load(), 4 * 15);
  EXPECT_TRUE(wait_until([&] { return relay_->metric("derp_current_connections") == 0; }));
  EXPECT_EQ(relay_->metric("detour_admission_waiting"), 0U);
}

TEST_F(AllowFile, AppNamesAreRefusedWithoutAnyOtherCheck) {
  relay_ = std::make_unique<TestRelay>(TestRelay::Options{
      .configure = [](config::Config& config) { config.disallowed_app_names = {"bad", "worse"}; }});
  const auto dial_as = [&](const std::string& app_name) {
    auto options = relay_->dial_options(crypto::NodePrivate::generate());
    options.info.app_name = app_name;
    return client::Client::dial(options).has_value();
  };
  EXPECT_TRUE(dial_as(""));
  EXPECT_TRUE(dial_as("good"));
  EXPECT_TRUE(dial_as("badly"));
  EXPECT_FALSE(dial_as("bad"));
  EXPECT_FALSE(dial_as("worse"));
  EXPECT_TRUE(was_logged(*relay_, "it calls itself worse, which is one of -disallow-app-names"));
}

TEST_F(AllowFile, ThatIsBadIsFatalAtTheStart) {
  config::Config config;
  config.listen = {.host = "127.0.0.1", .port = 0};
  config.tls = false;
  config.stun = false;
  config.allow_file = folder_.write("bad", "privkey:" + good_.public_key().hex());
  CollectedLog log;
  const auto started =
      server::Relay::start({.config = config, .key = crypto::NodePrivate::generate(), .log = &log});
  ASSERT_FALSE(started.has_value());
  EXPECT_TRUE(started.error().contains("line 1 is a private key")) << started.error();
}

}  // namespace
}  // namespace detour::test
