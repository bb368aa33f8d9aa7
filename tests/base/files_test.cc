#include "base/files.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "support/says.h"
#include "support/temp_folder.h"

namespace detour {
namespace {

using test::says;
using test::TempFolder;

std::size_t entries_in(const std::string& folder) {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(folder), {}));
}

TEST(ReadFile, AcceptsTheSizeLimitItselfAndRefusesOneByteMore) {
  const TempFolder folder;
  const auto path = folder.write("file", "0123456789");
  EXPECT_EQ(read_file(path, 10).value(), "0123456789");
  const auto refused = read_file(path, 9);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().problem, FileProblem::kTooLarge);
  EXPECT_TRUE(says(refused.error().message, path));
}

TEST(ReadFile, ReadsAnEmptyFile) {
  const TempFolder folder;
  EXPECT_EQ(read_file(folder.write("file", ""), 10).value(), "");
}

TEST(ReadFile, TellsWhatIsNotARegularFile) {
  const TempFolder folder;
  ASSERT_EQ(::mkfifo(folder.path("pipe").c_str(), 0600), 0);
  ASSERT_EQ(::symlink("/nowhere/at/all", folder.path("link").c_str()), 0);
  folder.write("file", "x");
  struct Case {
    std::string path;
    FileProblem problem;
    std::string says;
  };
  const Case kCases[] = {
      {folder.path("missing"), FileProblem::kMissing, "does not exist"},
      {folder.path("link"), FileProblem::kMissing, "is a link to /nowhere/at/all"},
      {folder.path("file/below"), FileProblem::kMissing, "a part of this path is a file"},
      {folder.path(), FileProblem::kNotRegular, "is a folder"},
      {folder.path("pipe"), FileProblem::kNotRegular, "is not a regular file"},
  };
  for (const auto& [path, problem, expected] : kCases) {
    SCOPED_TRACE(path);
    const auto refused = read_file(path, 10);
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().problem, problem);
    EXPECT_TRUE(refused.error().message.starts_with(path));
    EXPECT_TRUE(says(refused.error().message, expected));
  }
}

TEST(ReadFile, NamesUserOwnerAndModeOfAFileThatIsClosedToThisUser) {
  const TempFolder folder;
  const auto path = folder.write("file", "x");
  ::chmod(path.c_str(), 0200);
  const auto said = test::run_unprivileged([&] {
    const auto refused = read_file(path, 10);
    return refused ? *refused : refused.error().message;
  });
  EXPECT_TRUE(says(said, "may not read it"));
  EXPECT_TRUE(says(said, "(uid "));
  EXPECT_TRUE(says(said, "mode 0200"));
  EXPECT_TRUE(says(said, "setfacl -m u:"));
}

TEST(ReadFile, NamesTheFolderThatStopsThisUser) {
  const TempFolder folder;
  ASSERT_TRUE(make_folders(folder.path("closed/inner"), 0755).has_value());
  const auto path = folder.write("closed/inner/file", "x");
  ::chmod(folder.path("closed").c_str(), 0600);
  const auto said = test::run_unprivileged([&] {
    const auto refused = read_file(path, 10);
    return refused ? *refused : refused.error().message;
  });
  ::chmod(folder.path("closed").c_str(), 0700);
  EXPECT_TRUE(says(said, "folder " + folder.path("closed") + " (owner "));
  EXPECT_TRUE(says(said, "mode 0600"));
}

TEST(WriteNewFile, GivesTheExactModeWhateverTheUmaskIs) {
  const TempFolder folder;
  const mode_t before = ::umask(077);
  ASSERT_TRUE(write_new_file(folder.path("open"), "a", 0644).has_value());
  ::umask(0);
  ASSERT_TRUE(write_new_file(folder.path("closed"), "b", 0600).has_value());
  ::umask(before);
  EXPECT_EQ(test::mode_of(folder.path("open")), 0644U);
  EXPECT_EQ(test::mode_of(folder.path("closed")), 0600U);
  EXPECT_EQ(test::read_all(folder.path("open")), "a");
  EXPECT_EQ(entries_in(folder.path()), 2U);
}

TEST(WriteNewFile, NeverReplacesWhatIsThere) {
  const TempFolder folder;
  const auto path = folder.write("file", "old");
  ASSERT_EQ(::symlink("/nowhere/at/all", folder.path("link").c_str()), 0);
  for (const auto& taken : {path, folder.path("link")}) {
    const auto refused = write_new_file(taken, "new", 0600);
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().problem, FileProblem::kExists);
  }
  EXPECT_EQ(test::read_all(path), "old");
  EXPECT_EQ(entries_in(folder.path()), 2U) << "no temporary file is left behind";
}

TEST(WriteNewFile, FailsWithoutItsFolder) {
  const TempFolder folder;
  const auto refused = write_new_file(folder.path("missing/file"), "x", 0600);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().problem, FileProblem::kMissing);
}

TEST(WriteNewFile, NamesTheFolderThatThisUserMayNotWriteIn) {
  const TempFolder folder;
  ::chmod(folder.path().c_str(), 0555);
  const auto said = test::run_unprivileged([&] {
    const auto refused = write_new_file(folder.path("file"), "x", 0600);
    return refused ? std::string("written") : refused.error().message;
  });
  ::chmod(folder.path().c_str(), 0755);
  EXPECT_TRUE(says(said, "may not write in folder " + folder.path()));
  EXPECT_TRUE(says(said, "mode 0555"));
}

TEST(ReplaceFile, PutsTheNewContentAndModeInThePlaceOfTheOld) {
  const TempFolder folder;
  const auto path = folder.write("file", "old and longer");
  ASSERT_TRUE(replace_file(path, "new", 0600).has_value());
  EXPECT_EQ(test::read_all(path), "new");
  EXPECT_EQ(test::mode_of(path), 0600U);
  ASSERT_TRUE(replace_file(folder.path("other"), "made", 0640).has_value());
  EXPECT_EQ(test::mode_of(folder.path("other")), 0640U);
  EXPECT_EQ(entries_in(folder.path()), 2U) << "no temporary file is left behind";
}

TEST(ReplaceFile, LeavesTheOldFileWhenTheNewOneCannotBePutInPlace) {
  const TempFolder folder;
  ASSERT_TRUE(make_folders(folder.path("taken/below"), 0700).has_value());
  ASSERT_FALSE(replace_file(folder.path("taken"), "new", 0600).has_value());
  EXPECT_TRUE(std::filesystem::is_directory(folder.path("taken/below")));
  EXPECT_EQ(entries_in(folder.path()), 1U) << "no temporary file is left behind";
}

TEST(MakeFolders, MakesWhatIsMissingAndLeavesTheRest) {
  const TempFolder folder;
  ASSERT_TRUE(make_folders(folder.path("a/b/c"), 0700).has_value());
  EXPECT_EQ(test::mode_of(folder.path("a/b/c")), 0700U);
  ::chmod(folder.path("a").c_str(), 0711);
  EXPECT_TRUE(make_folders(folder.path("a/b/c/"), 0700).has_value());
  EXPECT_EQ(test::mode_of(folder.path("a")), 0711U);
  EXPECT_TRUE(make_folders(".", 0700).has_value());
}

TEST(MakeFolders, NamesTheFileThatIsInTheWay) {
  const TempFolder folder;
  const auto file = folder.write("file", "x");
  const auto refused = make_folders(file + "/below", 0700);
  ASSERT_FALSE(refused.has_value());
  EXPECT_TRUE(says(refused.error().message, file + " is a file"));
}

}  // namespace
}  // namespace detour
