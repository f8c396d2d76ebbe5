#include "engine/trainers/lanes.h"

#include <ATen/Parallel.h>
#include <ATen/ops/ones.h>
#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <thread>

#include "kernels/ops.h"

namespace hone::engine {
namespace {

class LanesTest : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override { at::set_num_threads(2); }
  void TearDown() override { at::set_num_threads(threads_); }
  int threads_ = at::get_num_threads();
};

TEST_P(LanesTest, RunsEveryTaskOnceAndKeepsTheCallersThreads) {
  Lanes lanes(GetParam());
  for (int round = 0; round < 50; ++round) {
    std::atomic<int> calls[5] = {};
    std::vector<std::function<void()>> tasks;
    for (auto& call : calls) {
      tasks.emplace_back([&] {
        ++call;
        // The kernels' first parallel loop in a thread must not bring the process's number back.
        kernels::rms_norm(at::ones({1000, 8}), at::ones({8}), 1e-5);
        EXPECT_EQ(at::get_num_threads(), GetParam() ? 1 : 2);
      });
    }
    lanes.run(tasks);
    for (const auto& call : calls) EXPECT_EQ(call, 1);
  }
  lanes.run({});
  EXPECT_EQ(at::get_num_threads(), 2);
}

TEST_P(LanesTest, RethrowsTheFirstErrorAndLivesOn) {
  Lanes lanes(GetParam());
  const auto fail = [](const char* what) { return [what] { throw std::runtime_error(what); }; };
  for (int round = 0; round < 20; ++round) {
    try {
      lanes.run({[] {}, fail("first"), fail("second")});
      FAIL() << "no error";
    } catch (const std::runtime_error& error) {
      EXPECT_STREQ(error.what(), "first");
    }
  }
  bool ran = false;
  lanes.run({[&] { ran = true; }});
  EXPECT_TRUE(ran);
}

TEST(Lanes, TwoTasksRunAtTheSameTime) {
  const int threads = at::get_num_threads();
  at::set_num_threads(2);
  {
    Lanes lanes(true);
    std::atomic<int> inside = 0;
    const auto meet = [&] {  // returns only when both are inside
      ++inside;
      while (inside < 2) std::this_thread::yield();
    };
    lanes.run({meet, meet});
  }
  at::set_num_threads(threads);
}

INSTANTIATE_TEST_SUITE_P(Enabled, LanesTest, ::testing::Bool());

}  // namespace
}  // namespace hone::engine
