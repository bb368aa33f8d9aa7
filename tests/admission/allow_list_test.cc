#include "admission/allow_list.h"

#include <gtest/gtest.h>

#include <string>

#include "support/frames.h"

namespace detour::admission {
namespace {

using test::numbered_key;

std::string upper(std::string hex) {
  for (char& c : hex) c = static_cast<char>(c >= 'a' && c <= 'f' ? c - 32 : c);
  return hex;
}

TEST(AllowList, TakesKeysWithNamesAndCommentsAsPeopleWriteThem) {
  const std::string content = "\xef\xbb\xbf# our nodes\n\n" +                             //
                              numbered_key(1).typed() + "\n" +                            //
                              "  \t" + numbered_key(2).typed() + "\tlaptop of Ann  \n" +  //
                              numbered_key(3).typed() + "# phone\r\n" +                   //
                              "nodekey:" + upper(numbered_key(4).hex()) + "\r\n" +        //
                              numbered_key(1).typed() + " again\n" +                      //
                              numbered_key(5).typed();
  const auto list = AllowList::parse("/allow", content);
  ASSERT_TRUE(list.has_value()) << list.error();
  EXPECT_EQ(list->size(), 5U);
  for (std::uint32_t i = 1; i <= 5; ++i) EXPECT_TRUE(list->contains(numbered_key(i))) << i;
  EXPECT_FALSE(list->contains(numbered_key(6)));
}

TEST(AllowList, MayBeEmpty) {
  for (const char* const content : {"", "\n\n", "# nobody yet\n"}) {
    const auto list = AllowList::parse("/allow", content);
    ASSERT_TRUE(list.has_value()) << list.error();
    EXPECT_EQ(list->size(), 0U);
  }
}

TEST(AllowList, NamesFileAndLineOfWhatIsWrongAndWhatToWrite) {
  const std::string good = numbered_key(1).typed();
  const std::string hex = numbered_key(1).hex();
  struct Case {
    const char* name;
    std::string content;
    const char* says;
  };
  const Case cases[] = {
      {"hex alone", good + "\n" + hex + "\n", "line 2 does not begin with a node key"},
      {"one digit short", good.substr(0, good.size() - 1), "line 1 has a node key that is not"},
      {"one digit more", good + "0", "line 1 has a node key that is not"},
      {"a private key", "privkey:" + hex, "line 1 is a private key"},
      {"a machine key", "mkey:" + hex, "line 1 has a key of another kind"},
      {"a name in front", "laptop " + good, "line 1 does not begin with a node key"},
      {"zeros", "nodekey:" + std::string(64, '0'), "line 1 has the key of zeros"},
      {"behind comments", "#\n#\n\nx\n", "line 4 does not begin"},
      {"two lines", "x\n" + good + "\ny\n",
       "line 1 does not begin with a node key (nodekey: and 64 "
       "hex digits); line 3 does not"},
  };
  for (const auto& [name, content, says] : cases) {
    SCOPED_TRACE(name);
    const auto list = AllowList::parse("/etc/allow", content);
    ASSERT_FALSE(list.has_value());
    EXPECT_TRUE(list.error().starts_with("allow file /etc/allow: ")) << list.error();
    EXPECT_TRUE(list.error().contains(says)) << list.error();
    EXPECT_TRUE(list.error().contains("write one node key a line")) << list.error();
    EXPECT_FALSE(list.error().contains(hex)) << "may be a secret: " << list.error();
  }
}

TEST(AllowList, NamesAHandfulOfBadLinesAndCountsTheRest) {
  std::string content;
  for (int i = 0; i < 5; ++i) content += "x\n";
  EXPECT_FALSE(AllowList::parse("/a", content).error().contains("more lines"));
  content += "x\nx\n";
  const auto list = AllowList::parse("/a", content);
  ASSERT_FALSE(list.has_value());
  EXPECT_TRUE(list.error().contains("line 5 ")) << list.error();
  EXPECT_FALSE(list.error().contains("line 6 ")) << list.error();
  EXPECT_TRUE(list.error().contains("2 more lines are wrong")) << list.error();
}

TEST(AllowList, TakesWhatStandsBehindAKeyForItsName) {
  const std::string hex(64, 'b');
  const auto name_of = [&](const std::string& behind) {
    const auto list = AllowList::parse("/a", "nodekey:" + hex + behind + "\n");
    EXPECT_TRUE(list.has_value());
    const auto& names = *list->names();
    return names.empty() ? std::string("(none)") : names.begin()->second;
  };
  EXPECT_EQ(name_of(""), "(none)");
  EXPECT_EQ(name_of("  \t"), "(none)");
  EXPECT_EQ(name_of(" #"), "(none)");
  EXPECT_EQ(name_of(" laptop of Anna\t# since May"), "laptop of Anna");
  EXPECT_EQ(name_of(" # laptop"), "laptop");
  EXPECT_EQ(name_of(" a\x1b[31mb\x7f"
                    "c"),
            "a [31mb c")
      << "names end up on terminals";
  EXPECT_EQ(name_of("#\x0e phone \x0f"), "phone") << "found by fuzzing";
  EXPECT_EQ(name_of(" \x0e\x0f"), "(none)");
  EXPECT_EQ(name_of(" " + std::string(63, 'x') + " yz"), std::string(63, 'x'));
  EXPECT_EQ(name_of(" " + std::string(64, 'x')), std::string(64, 'x'));
  EXPECT_EQ(name_of(" " + std::string(65, 'x')), std::string(64, 'x'));
  EXPECT_EQ(name_of(" " + std::string(63, 'x') + "\xc3\xa4"), std::string(63, 'x'));
}

}  // namespace
}  // namespace detour::admission
