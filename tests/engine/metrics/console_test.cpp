// What a person sees: a plain line every tenth in a pipe, one refreshing line on a terminal.

#include "engine/metrics/console.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>

namespace hone::engine {
namespace {

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> out;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) out.push_back(line);
  return out;
}

template <class Use>
std::string through_pipe(Use use) {
  std::FILE* file = std::tmpfile();
  {
    Console console(file);
    use(console);
  }
  std::string out(static_cast<size_t>(std::ftell(file)), '\0');
  std::rewind(file);
  EXPECT_EQ(std::fread(out.data(), 1, out.size(), file), out.size());
  std::fclose(file);
  return out;
}

// Everything written to a pseudo terminal of the given width.
template <class Use>
std::string on_terminal(unsigned short columns, Use use) {
  const int master = posix_openpt(O_RDWR | O_NOCTTY);
  EXPECT_TRUE(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
  std::FILE* terminal = fopen(ptsname(master), "w");
  const winsize size = {.ws_row = 24, .ws_col = columns, .ws_xpixel = 0, .ws_ypixel = 0};
  ioctl(fileno(terminal), TIOCSWINSZ, &size);
  std::string out;
  {
    Console console(terminal);
    use(console);
  }
  pollfd ready = {.fd = master, .events = POLLIN, .revents = 0};
  char block[4096];
  while (poll(&ready, 1, 50) > 0 && (ready.revents & POLLIN)) {
    const ssize_t count = read(master, block, sizeof block);
    if (count <= 0) break;
    out.append(block, static_cast<size_t>(count));
  }
  fclose(terminal);
  close(master);
  return out;
}

void forty_steps(Console& console) {
  console.begin_stage("ppo", 40);
  for (int64_t i = 1; i <= 40; ++i) {
    console.step(i,
                 {{"ppo/score", 0.82}, {"ppo/clip_fraction", 0.1}, {"ppo/tokens_per_second", 1234}},
                 {"ppo/score"});
  }
  console.end_stage();
}

TEST(Console, APipeGetsALineEveryTenth) {
  const auto lines = lines_of(through_pipe(forty_steps));
  ASSERT_EQ(lines.size(), 10u);
  EXPECT_EQ(lines[2].rfind("[ppo] 12/40 30% score 0.82 1234 tok/s eta 0:00", 0), 0u) << lines[2];
  EXPECT_EQ(lines[9].rfind("[ppo] 40/40 100% score 0.82 1234 tok/s in 0:00", 0), 0u) << lines[9];
}

TEST(Console, AResumedStageDoesNotRepeatItsTenths) {
  const auto lines = lines_of(through_pipe([](Console& console) {
    console.begin_stage("sft", 100);
    for (int64_t i = 56; i <= 100; ++i) console.step(i, {}, {});
  }));
  ASSERT_EQ(lines.size(), 5u);
  EXPECT_EQ(lines[0].rfind("[sft] 60/100 60%", 0), 0u) << lines[0];
}

TEST(Console, WithoutATotalLinesThinOut) {
  const auto lines = lines_of(through_pipe([](Console& console) {
    console.begin_stage("sft", 0);
    for (int64_t i = 1; i <= 100; ++i) console.step(i, {}, {});
  }));
  EXPECT_EQ(lines.size(), 7u);  // 1, 2, 5, 10, 20, 50, 100
}

TEST(Console, WithoutNamesTheFirstFourValuesShow) {
  const std::string out = through_pipe([](Console& console) {
    console.begin_stage("x", 1);
    console.step(1, {{"x/a", 1}, {"x/b", 2}, {"x/c_d", 3}, {"x/e", 4}, {"x/f", 5}}, {});
  });
  EXPECT_NE(out.find("a 1 b 2 c d 3 e 4 in"), std::string::npos) << out;
}

TEST(Console, ATerminalLineFitsAndRefreshes) {
  unsetenv("NO_COLOR");
  setenv("TERM", "xterm", 1);
  const std::string out = on_terminal(44, forty_steps);
  EXPECT_NE(out.find("\x1b[1m[ppo]\x1b[0m 40/40 100%"), std::string::npos) << out;
  EXPECT_EQ(std::count(out.begin(), out.end(), '\n'), 1);  // one line, ended once
  for (size_t at = out.find("\x1b[K"); at != std::string::npos; at = out.find("\x1b[K", at + 1)) {
    const size_t end = std::min(out.find('\r', at), out.size());
    EXPECT_LT(columns_of(out.substr(at + 3, end - at - 3)) - 8, 44);  // 8: bold on and off
  }
}

TEST(Console, NoColorIsHonoured) {
  setenv("NO_COLOR", "1", 1);
  setenv("TERM", "xterm", 1);
  const std::string out = on_terminal(80, forty_steps);
  unsetenv("NO_COLOR");
  EXPECT_EQ(out.find("\x1b[1m"), std::string::npos);
  EXPECT_NE(out.find("[ppo] 40/40"), std::string::npos);
}

TEST(Console, ARemarkDoesNotTearTheLine) {
  setenv("TERM", "xterm", 1);
  const std::string out = on_terminal(80, [](Console& console) {
    console.begin_stage("ppo", 2);
    console.step(1, {}, {});
    console.say("saved \x1b[31mpolicy");
  });
  EXPECT_NE(out.find("\r\x1b[Ksaved  [31mpolicy\r\n"), std::string::npos) << out;
  EXPECT_EQ(out.find("\x1b[31m"), std::string::npos);  // texts cannot command the terminal
}

TEST(TerminalLine, Words) {
  EXPECT_EQ(clock_time(21), "0:21");
  EXPECT_EQ(clock_time(725.4), "12:05");
  EXPECT_EQ(clock_time(10800), "3:00:00");
  EXPECT_EQ(clock_time(-1), "-:--");
  EXPECT_EQ(short_number(0.8239), "0.824");
  EXPECT_EQ(short_number(1234.4), "1234");
  EXPECT_EQ(short_number(2e-5), "2e-05");
  EXPECT_EQ(cut_columns("a√b", 2), "a√");
  EXPECT_EQ(printable("a\x7f\u0085"
                      "b\n"),
            "a   b\n");
}

}  // namespace
}  // namespace hone::engine
