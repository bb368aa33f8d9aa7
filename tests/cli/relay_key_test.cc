#include "cli/relay_key.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <regex>
#include <string>

#include "config/key_file.h"
#include "support/keys.h"
#include "support/says.h"
#include "support/temp_folder.h"

namespace detour::cli {
namespace {

using test::says;
using test::TempFolder;

std::string refusal(const std::string& path) {
  const auto loaded = load_or_make_key(path);
  EXPECT_FALSE(loaded.has_value()) << "the key was accepted";
  return loaded ? std::string() : loaded.error();
}

TEST(LoadOrMakeKey, MakesAKeyOnceAndReadsItAfterwards) {
  const TempFolder folder;
  const auto path = folder.path("state/deep/relay.key");
  const auto made = load_or_make_key(path);
  ASSERT_TRUE(made.has_value()) << made.error();
  EXPECT_TRUE(made->just_made);
  EXPECT_EQ(test::mode_of(path), 0600U);
  EXPECT_TRUE(std::regex_match(test::read_all(path),
                               std::regex("\\{\n\t\"PrivateKey\": \"privkey:[0-9a-f]{64}\"\n\\}")));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path("state/deep")), {}), 1);

  const auto again = load_or_make_key(path);
  ASSERT_TRUE(again.has_value()) << again.error();
  EXPECT_FALSE(again->just_made);
  EXPECT_EQ(again->key.public_key(), made->key.public_key());
}

TEST(LoadOrMakeKey, MakesFoldersAsTheUmaskHasThem) {
  const TempFolder folder;
  const mode_t before = ::umask(027);
  EXPECT_TRUE(load_or_make_key(folder.path("state/relay.key")).has_value());
  ::umask(before);
  EXPECT_EQ(test::mode_of(folder.path("state")), 0750U);
  EXPECT_EQ(test::mode_of(folder.path("state/relay.key")), 0600U);
}

TEST(LoadOrMakeKey, LeavesAnExistingFileAsItIs) {
  const TempFolder folder;
  const auto content = config::format_key_file(test::relay_private()) + "\n\n";
  const auto path = folder.write("relay.key", content);
  const auto loaded = load_or_make_key(path);
  ASSERT_TRUE(loaded.has_value()) << loaded.error();
  EXPECT_EQ(loaded->key.public_key(), test::relay_public());
  EXPECT_EQ(test::read_all(path), content);
  EXPECT_EQ(test::mode_of(path), 0644U);
}

TEST(LoadOrMakeKey, NeverOverwritesWhatItCannotRead) {
  const TempFolder folder;
  for (const std::string content : {"", "hello", "{}", "{\"PrivateKey\":"}) {
    const auto path = folder.write("relay.key", content);
    EXPECT_TRUE(says(refusal(path), "relay key: " + path));
    EXPECT_EQ(test::read_all(path), content);
  }
}

TEST(LoadOrMakeKey, AcceptsTheLargestFileAndRefusesOneByteMore) {
  const TempFolder folder;
  std::string content = config::format_key_file(test::relay_private());
  content.resize(64 * 1024, ' ');
  EXPECT_TRUE(load_or_make_key(folder.write("relay.key", content)).has_value());
  EXPECT_TRUE(says(refusal(folder.write("relay.key", content + " ")), "is larger than 64 KiB"));
}

TEST(LoadOrMakeKey, TellsWhatIsNotAFile) {
  const TempFolder folder;
  ASSERT_EQ(::symlink("/nowhere/at/all", folder.path("link").c_str()), 0);
  folder.write("file", "x");
  EXPECT_TRUE(says(refusal(folder.path()), "is a folder"));
  EXPECT_TRUE(says(refusal(folder.path("link")), "is a link to /nowhere/at/all"));
  EXPECT_TRUE(says(refusal(folder.path("file/relay.key")), "is a file"));
  EXPECT_TRUE(says(refusal("/proc/no/such/relay.key"), "relay key: /proc/no"));
}

TEST(LoadOrMakeKey, NamesTheUserWhoMayNotReadOrWrite) {
  const TempFolder folder;
  const auto path = folder.write("relay.key", config::format_key_file(test::relay_private()));
  ::chmod(path.c_str(), 0200);
  EXPECT_TRUE(says(test::run_unprivileged([&] { return refusal(path); }), "may not read it"));
  ::chmod(folder.path().c_str(), 0555);
  const auto said = test::run_unprivileged([&] { return refusal(folder.path("new/relay.key")); });
  ::chmod(folder.path().c_str(), 0755);
  EXPECT_TRUE(says(said, "may not write in folder " + folder.path()));
}

}  // namespace
}  // namespace detour::cli
