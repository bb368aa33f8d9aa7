#include "config/control_socket.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "config/command_line.h"

namespace detour::config {
namespace {

TEST(ControlSocket, IsWhereTheConfigurationSays) {
  Config config;
  config.key_file = "/var/lib/x/relay.key";
  config.control_socket = "off";
  EXPECT_EQ(control_socket_of(config).path, "");
  config.control_socket = "/tmp/a.sock";
  EXPECT_EQ(control_socket_of(config).path, "/tmp/a.sock");
  EXPECT_FALSE(control_socket_of(config).is_default);
  config.control_socket = "auto";
  EXPECT_TRUE(control_socket_of(config).is_default);
  const bool can_run = ::access("/run/detour", W_OK | X_OK) == 0;
  EXPECT_EQ(control_socket_of(config).path,
            can_run ? "/run/detour/detour.sock" : "/var/lib/x/detour.sock");
}

TEST(ControlSocketCandidates, FollowTheEnvironment) {
  Environment environment;
  environment.is_root = true;
  using Paths = std::vector<std::string>;
  EXPECT_EQ(control_socket_candidates(environment),
            (Paths{"/run/detour/detour.sock", "/var/lib/detour/detour.sock"}));
  environment.variables["DETOUR_KEY_FILE"] = "/srv/relay/key";
  EXPECT_EQ(control_socket_candidates(environment),
            (Paths{"/run/detour/detour.sock", "/srv/relay/detour.sock"}));
  environment.variables["DETOUR_CONTROL_SOCKET"] = "auto";
  EXPECT_EQ(control_socket_candidates(environment).size(), 2U);
  environment.variables["DETOUR_CONTROL_SOCKET"] = "/srv/c";
  EXPECT_EQ(control_socket_candidates(environment), Paths{"/srv/c"});
}

}  // namespace
}  // namespace detour::config
