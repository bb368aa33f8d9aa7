#include "server/reload.h"

#include <gtest/gtest.h>

#include <string>

namespace detour::server {
namespace {

TEST(ReloadSubscribers, RunInTheOrderOfAddingWithTheChangedConfiguration) {
  ReloadSubscribers subscribers;
  std::string seen;
  subscribers.add([&](const config::Config& changed) { seen += "1:" + changed.allow_file + " "; });
  subscribers.add([&](const config::Config& changed) { seen += "2:" + changed.allow_file + " "; });
  config::Config config;
  subscribers.run(config);
  config.allow_file = "/allow";
  subscribers.run(config);
  EXPECT_EQ(seen, "1: 2: 1:/allow 2:/allow ");
}

}  // namespace
}  // namespace detour::server
