#include "cli/log_spdlog.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <regex>
#include <sstream>
#include <string>

#include "base/clock.h"

namespace detour::cli {
namespace {

class Pipe {
 public:
  Pipe() { EXPECT_EQ(::pipe2(ends_.data(), O_CLOEXEC), 0); }
  ~Pipe() {
    ::close(ends_[0]);
    ::close(ends_[1]);
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;

  [[nodiscard]] int writing_end() const { return ends_[1]; }
  /// All that was written so far.
  [[nodiscard]] std::string read() const {
    ::fcntl(ends_[0], F_SETFL, O_NONBLOCK);
    std::string text;
    std::array<char, 4096> buffer;
    for (ssize_t got = 0; (got = ::read(ends_[0], buffer.data(), buffer.size())) > 0;)
      text.append(buffer.data(), static_cast<std::size_t>(got));
    return text;
  }

 private:
  std::array<int, 2> ends_{};
};

TEST(SpdlogLog, WritesLinesWithTimeAndLevelBeforeItEnds) {
  const Pipe pipe;
  {
    SpdlogLog log(pipe.writing_end());
    log.debug("not shown");
    log.info("one {} two");
    log.warn("three");
    log.error("four");
  }
  const auto text = pipe.read();
  const std::string time = "\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{3}[+-]\\d\\d:\\d\\d ";
  EXPECT_TRUE(std::regex_match(text, std::regex(time + "info one \\{\\} two\n" + time +
                                                "warning three\n" + time + "error four\n")))
      << text;
}

TEST(SpdlogLog, NeitherHoldsUpItsWriterNorTheEndWhileNobodyReads) {
  constexpr int kLines = 20'000;  // More than pipe and queue hold.
  const Pipe pipe;
  const auto start = Clock::now();
  {
    SpdlogLog log(pipe.writing_end());
    for (int i = 0; i < kLines; ++i) log.info(fmt::format("line {}", i));
  }
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(5));
  // Which lines were overwritten is up to the scheduler; those that came are whole and in order.
  std::istringstream arrived(pipe.read());
  int last = -1;
  for (std::string line; std::getline(arrived, line);) {
    const auto at = line.find(" info line ");
    ASSERT_NE(at, std::string::npos) << line;
    const int number = std::stoi(line.substr(at + 11));
    EXPECT_GT(number, last);
    last = number;
  }
  EXPECT_GE(last, 0) << "the pipe was empty, so some lines fitted";
}

TEST(SpdlogLog, SurvivesADescriptorThatIsGone) {
  SpdlogLog log(-1);
  log.info("nobody hears this");
}

class RecordedLog final : public Log {
 public:
  void write(LogLevel, std::string_view message) override { text += fmt::format("[{}]", message); }
  std::string text;
};

TEST(LogLines, MakesOneLineOfEach) {
  for (const auto& [text, lines] :
       {std::pair{"a", "[a]"}, {"a\nb", "[a][b]"}, {"a\nb\n", "[a][b]"}, {"", ""}}) {
    RecordedLog log;
    log_lines(log, LogLevel::kError, text);
    EXPECT_EQ(log.text, lines);
  }
}

}  // namespace
}  // namespace detour::cli
