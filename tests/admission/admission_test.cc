#include "admission/admission.h"

#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <fstream>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "support/frames.h"
#include "support/temp_folder.h"

namespace detour::admission {
namespace {

using test::numbered_key;
using Result = Verdict::Result;

constexpr std::chrono::seconds kPatience{30};

/// Keeps what admission says, and waits for it.
class Listener final : public Admission::Listener, public Log {
 public:
  void decided(const Login& login, const Verdict& verdict) override {
    const std::lock_guard lock(mutex_);
    results_[login.id] = verdict.result;
    changed_.notify_all();
  }
  void cut_off(const Login& login) override {
    const std::lock_guard lock(mutex_);
    cut_.insert(login.id);
    changed_.notify_all();
  }
  void write(LogLevel /*level*/, std::string_view message) override {
    const std::lock_guard lock(mutex_);
    lines_.emplace_back(message);
    changed_.notify_all();
  }

  std::optional<Result> result(std::uint64_t id) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, kPatience, [&] { return results_.contains(id); }))
      return std::nullopt;
    return results_[id];
  }
  bool was_cut(std::uint64_t id) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kPatience, [&] { return cut_.contains(id); });
  }
  bool was_logged(std::string_view text) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kPatience, [&] {
      return std::ranges::any_of(lines_,
                                 [&](const std::string& line) { return line.contains(text); });
    });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::uint64_t, Result> results_;
  std::set<std::uint64_t> cut_;
  std::vector<std::string> lines_;
};

Login login(std::uint64_t id, std::uint32_t number) {
  return {.id = id, .worker = 0, .subject = {numbered_key(number), "192.0.2.1"}};
}

TEST(Admission, FollowsItsAllowFile) {
  const test::TempFolder folder;
  const std::string path = folder.write("allow", numbered_key(1).typed() + " one\n");
  Listener listener;
  auto started = Admission::start({.allow_file = path}, listener, listener);
  ASSERT_TRUE(started.has_value()) << started.error();
  Admission& admission = **started;
  EXPECT_TRUE(admission.is_checking());
  admission.log_in(login(1, 1));
  EXPECT_EQ(listener.result(1), Result::kAllowed);
  admission.log_in(login(2, 2));
  EXPECT_EQ(listener.result(2), Result::kDenied);
  EXPECT_TRUE(listener.was_logged("client " + numbered_key(2).typed() +
                                  " from 192.0.2.1 refused: its key is not in the allow file"));

  // A slip of the pen changes nothing and is named.
  folder.write("allow", numbered_key(2).typed() + "\nnodekey:12\n");
  EXPECT_TRUE(listener.was_logged("line 2 has a node key that is not"));
  EXPECT_EQ(admission.counters().allow_list_stale.get(), 1U);
  admission.log_in(login(3, 1));
  EXPECT_EQ(listener.result(3), Result::kAllowed);

  folder.write("allow", numbered_key(2).typed() + "\n# one has left\n");
  EXPECT_TRUE(listener.was_cut(1));
  EXPECT_TRUE(listener.was_cut(3));
  EXPECT_EQ(admission.counters().allow_list_stale.get(), 0U);
  admission.log_in(login(4, 2));
  EXPECT_EQ(listener.result(4), Result::kAllowed);

  // A file that is gone is a slip, too.
  std::filesystem::remove(path);
  EXPECT_TRUE(listener.was_logged("allow file " + path + ": does not exist"));
  admission.log_in(login(5, 2));
  EXPECT_EQ(listener.result(5), Result::kAllowed);
}

TEST(Admission, DoesNotStartWithSettingsThatCannotWork) {
  const test::TempFolder folder;
  struct Case {
    const char* name;
    Options options;
    std::string says;
  };
  std::vector<std::string> too_many(kSourcesMax + 1, "/s");
  const Case cases[] = {
      {"no allow file", {.allow_file = folder.path("none")}, "does not exist"},
      {"a bad allow file", {.allow_file = folder.write("bad", "x")}, "line 1 does not begin"},
      {"an allow file too large",
       {.allow_file = folder.write("large", std::string(kAllowFileSizeMax + 1, '#'))},
       "large"},
      {"no authorization file",
       {.urls = {"http://c"}, .authorization_file = folder.path("none")},
       "--verify-client-url-auth-file"},
      {"an empty authorization file",
       {.urls = {"http://c"}, .authorization_file = folder.write("empty", " \n")},
       "is empty; write what"},
      {"an authorization of two lines",
       {.urls = {"http://c"}, .authorization_file = folder.write("two", "a\nEvil: b\n")},
       "more than one line"},
      {"not a URL", {.urls = {"control.example.com"}}, "with http:// or https:// in front"},
      {"half a URL", {.urls = {"http://"}}, "is not a URL"},
      {"a long socket path",
       {.verify_clients = true, .sockets = {"/" + std::string(107, 'x')}},
       "longer than 107 bytes"},
      {"too many sockets", {.verify_clients = true, .sockets = too_many}, "at most 16"},
  };
  for (const auto& [name, options, says] : cases) {
    SCOPED_TRACE(name);
    Listener listener;
    const auto started = Admission::start(options, listener, listener);
    ASSERT_FALSE(started.has_value());
    EXPECT_TRUE(started.error().contains(says)) << started.error();
  }
  Listener listener;
  EXPECT_TRUE(Admission::start({.verify_clients = true, .sockets = {"/" + std::string(106, 'x')}},
                               listener, listener));
  too_many.pop_back();
  EXPECT_TRUE(Admission::start({.verify_clients = true, .sockets = too_many}, listener, listener));
  EXPECT_TRUE(
      Admission::start({.allow_file = folder.write("full", std::string(kAllowFileSizeMax, '#'))},
                       listener, listener));
}

TEST(Admission, ASocketThatIsNotThereIsNamedWithTheFix) {
  const test::TempFolder folder;
  Listener listener;
  auto started = Admission::start({.verify_clients = true, .sockets = {folder.path("ts.sock")}},
                                  listener, listener);
  ASSERT_TRUE(started.has_value()) << started.error();
  (*started)->log_in(login(1, 1));
  EXPECT_EQ(listener.result(1), Result::kUndecided);
  EXPECT_TRUE(listener.was_logged("cannot check clients: there is no socket " +
                                  folder.path("ts.sock") + ": start tailscaled"));
  EXPECT_EQ((*started)->counters().answers[0][3].get(), 1U);
}

TEST(Admission, TakesChangedSettingsAndKeepsTheOldOnesWhenTheyAreBad) {
  const test::TempFolder folder;
  const std::string first = folder.write("first", numbered_key(1).typed());
  const std::string second = folder.write("second", numbered_key(2).typed());
  Listener listener;
  auto started = Admission::start({.allow_file = first}, listener, listener);
  ASSERT_TRUE(started.has_value()) << started.error();
  Admission& admission = **started;
  admission.log_in(login(1, 1));
  EXPECT_EQ(listener.result(1), Result::kAllowed);

  const auto bad = admission.reload({.allow_file = folder.path("none")});
  ASSERT_FALSE(bad.has_value());
  admission.log_in(login(2, 1));
  EXPECT_EQ(listener.result(2), Result::kAllowed);

  EXPECT_TRUE(admission.reload({.allow_file = second}).has_value());
  EXPECT_TRUE(listener.was_cut(1));
  admission.log_in(login(3, 2));
  EXPECT_EQ(listener.result(3), Result::kAllowed);

  EXPECT_TRUE(admission.reload({.disallowed_app_names = {"bad"}}).has_value());
  EXPECT_FALSE(admission.is_checking());
  EXPECT_FALSE(admission.allows_app_name("bad"));
  EXPECT_TRUE(admission.allows_app_name("Bad"));
  EXPECT_TRUE(admission.allows_app_name(""));
  admission.log_in(login(4, 9));
  EXPECT_EQ(listener.result(4), Result::kAllowed) << "one that was on its way when it changed";
}

}  // namespace
}  // namespace detour::admission
