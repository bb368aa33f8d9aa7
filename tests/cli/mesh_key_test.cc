#include "cli/mesh_key.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "support/says.h"
#include "support/temp_folder.h"

namespace detour::cli {
namespace {

using test::says;
using test::TempFolder;

const std::string kDigits = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

TEST(LoadMeshKey, TakesWhatDerperTakes) {
  std::string capitals = kDigits;
  for (char& c : capitals) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  for (const std::string& content :
       {kDigits, kDigits + "\n", " \t\r\n" + kDigits + "\v\f\n\n", capitals}) {
    const TempFolder folder;
    config::Config config;
    config.mesh_key_file = folder.write("mesh.key", content);
    config.mesh_with = {{.host = "derp2.example.com", .dial_host = ""}};
    const auto key = load_mesh_key(config);
    ASSERT_TRUE(key.has_value()) << key.error();
    EXPECT_EQ(key->hex_secret(), kDigits);
  }
}

TEST(LoadMeshKey, IsZeroWithoutAKeyAndForAnEmptyFile) {
  const TempFolder folder;
  config::Config config;
  ASSERT_TRUE(load_mesh_key(config).has_value());
  EXPECT_TRUE(load_mesh_key(config)->is_zero());
  config.mesh_key_file = folder.write("mesh.key", "");
  ASSERT_TRUE(load_mesh_key(config).has_value());
  EXPECT_TRUE(load_mesh_key(config)->is_zero());
  config.mesh_with = {{.host = "derp2.example.com", .dial_host = ""}};
  EXPECT_FALSE(load_mesh_key(config).has_value()) << "there is somebody to mesh with";
}

TEST(LoadMeshKey, PrefersTheKeyItself) {
  config::Config config;
  config.mesh_key = kDigits;
  const auto key = load_mesh_key(config);
  ASSERT_TRUE(key.has_value()) << key.error();
  EXPECT_EQ(key->hex_secret(), kDigits);
}

TEST(LoadMeshKey, RefusesAnythingElseWithoutShowingIt) {
  struct Case {
    std::string_view name;
    std::string content;
    std::string_view says;
  };
  const Case cases[] = {
      {"white space alone", " \n", "white space alone"},
      {"one digit less", kDigits.substr(1), "63 characters"},
      {"one digit more", kDigits + "a", "65 characters"},
      {"no hex digit", "g" + kDigits.substr(1), "something else than hex digits"},
      {"zeros", std::string(64, '0'), "a key of zeros"},
      {"with a prefix", "mesh:" + kDigits, "69 characters"},
      {"a whole file of them", std::string(5000, 'a'), ""},
  };
  for (const auto& [name, content, wanted] : cases) {
    SCOPED_TRACE(name);
    const TempFolder folder;
    config::Config config;
    config.mesh_key_file = folder.write("mesh.key", content);
    const auto key = load_mesh_key(config);
    ASSERT_FALSE(key.has_value());
    EXPECT_TRUE(says(key.error(), config.mesh_key_file));
    EXPECT_TRUE(says(key.error(), wanted));
    EXPECT_EQ(key.error().find(kDigits.substr(10, 20)), std::string::npos) << key.error();
  }
  config::Config config;
  config.mesh_key_file = "/nowhere/mesh.key";
  ASSERT_FALSE(load_mesh_key(config).has_value());
  EXPECT_NE(load_mesh_key(config).error().find("/nowhere/mesh.key"), std::string::npos);
}

}  // namespace
}  // namespace detour::cli
