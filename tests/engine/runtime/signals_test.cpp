// Each case in a process of its own: handlers and the asked-for signal are process-wide.

#include "engine/runtime/signals.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <functional>

namespace hone::engine {
namespace {

// Wait status of a child that runs `body` and exits 0.
int status_of(const std::function<void()>& body) {
  const pid_t child = fork();
  if (child == 0) {
    body();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return status;
}

class SignalsTest : public ::testing::TestWithParam<int> {};

TEST_P(SignalsTest, TheFirstAsksForAStop) {
  const int status = status_of([] {
    install_signal_handlers();
    if (stop_signal() != 0) _exit(10);
    check_interrupted();
    raise(GetParam());
    if (stop_signal() != GetParam()) _exit(11);
    try {
      check_interrupted();
    } catch (const Interrupted& interrupted) {
      _exit(interrupted.signal == GetParam() ? 42 : 12);
    }
  });
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 42);
}

TEST_P(SignalsTest, TheSecondLeavesAtOnce) {
  const int status = status_of([] {
    install_signal_handlers();
    std::atexit([] { _exit(13); });  // _exit runs no handlers
    raise(SIGINT);
    raise(GetParam());
  });
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 128 + GetParam());
}

TEST_P(SignalsTest, ABlockedReadWakesUp) {
  const int status = status_of([] {
    install_signal_handlers();
    int ends[2];
    if (pipe(ends) != 0) _exit(14);
    const pid_t sender = fork();
    if (sender == 0) {
      usleep(50000);
      kill(getppid(), GetParam());
      _exit(0);
    }
    char byte;
    const bool woken = read(ends[0], &byte, 1) < 0 && errno == EINTR;
    _exit(woken && stop_signal() == GetParam() ? 42 : 15);
  });
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 42);
}

TEST_P(SignalsTest, AnIgnoredSignalStaysIgnored) {
  const int status = status_of([] {
    signal(GetParam(), SIG_IGN);
    install_signal_handlers();
    raise(GetParam());
    _exit(stop_signal() == 0 ? 42 : 16);
  });
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 42);
}

INSTANTIATE_TEST_SUITE_P(Both, SignalsTest, ::testing::Values(SIGINT, SIGTERM));

}  // namespace
}  // namespace hone::engine
