#include "doctor/machine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>

#include "support/temp_folder.h"

namespace detour::doctor {
namespace {

/// A kernel whose files the test writes.
class MachineTest : public testing::Test {
 protected:
  void put(const std::string& path, const std::string& content) {
    const auto whole = std::filesystem::path(folder_.path()) / path;
    std::filesystem::create_directories(whole.parent_path());
    std::ofstream(whole) << content;
  }
  MachineRoots roots() const {
    const std::string path = folder_.path();
    return {.proc = path + "/proc", .sys = path + "/sys"};
  }
  bool finds(std::string_view fault) const {
    return std::ranges::any_of(judge_machine(0, roots()),
                               [fault](const Finding& finding) { return finding.fault == fault; });
  }

  test::TempFolder folder_;
};

TEST_F(MachineTest, WarnsBelowEachLimitAndNotAtIt) {
  struct Case {
    std::string_view fault;
    std::string file;
    std::string bad;
    std::string good;
  };
  put("proc/self/cgroup", "0::/relay\n");
  put("proc/sys/net/netfilter/nf_conntrack_max", "1000\n");
  const Case cases[] = {
      {"somaxconn", "proc/sys/net/core/somaxconn", "1023\n", "1024\n"},
      {"conntrack", "proc/sys/net/netfilter/nf_conntrack_count", "801\n", "800\n"},
      {"memory", "sys/fs/cgroup/relay/memory.max", "134217727\n", "134217728\n"},
      {"memory", "sys/fs/cgroup/relay/memory.max", "1\n", "max\n"},
      {"congestion", "proc/sys/net/ipv4/tcp_congestion_control", "cubic\n", "bbr\n"},
  };
  for (const auto& [fault, file, bad, good] : cases) {
    put(file, bad);
    EXPECT_TRUE(finds(fault)) << file << " = " << bad;
    put(file, good);
    EXPECT_FALSE(finds(fault)) << file << " = " << good;
  }
}

TEST_F(MachineTest, SaysNothingAboutWhatTheKernelDoesNotTell) {
  for (const std::string_view fault : {"somaxconn", "conntrack", "memory", "congestion"})
    EXPECT_FALSE(finds(fault)) << fault;
}

TEST_F(MachineTest, FindsRelaysByTheirProgram) {
  const auto process = [this](int pid, const std::string& program, const std::string& cmdline) {
    const std::string path = "proc/" + std::to_string(pid) + "/";
    put(path + "cmdline", cmdline);
    put(path + "environ", std::string("A=1\0B=2=3\0", 10));
    std::filesystem::create_symlink(program,
                                    std::filesystem::path(folder_.path()) / (path + "exe"));
  };
  process(10, "/usr/bin/detour", std::string("detour\0serve\0--listen\0:443\0", 27));
  process(11, "/usr/bin/detour (deleted)", std::string("/usr/local/bin/derper\0-a\0:443\0", 30));
  process(12, "/usr/bin/detour", std::string("detour\0doctor\0", 14));
  process(13, "/usr/bin/derper", std::string("derper\0-a\0:443\0", 15));
  process(14, "/usr/bin/bash", std::string("bash\0serve\0", 11));
  const auto relays = find_relays(roots());
  ASSERT_EQ(relays.size(), 2U);
  EXPECT_EQ(relays[0].pid, 10);
  EXPECT_FALSE(relays[0].as_derper);
  EXPECT_EQ(relays[0].args, (std::vector<std::string>{"--listen", ":443"}));
  ASSERT_TRUE(relays[0].environment);
  EXPECT_EQ(relays[0].environment->at("B"), "2=3");
  EXPECT_EQ(relays[1].pid, 11);
  EXPECT_TRUE(relays[1].as_derper);
  EXPECT_EQ(relays[1].args, (std::vector<std::string>{"-a", ":443"}));
}

}  // namespace
}  // namespace detour::doctor
