#include "engine/distributed/watch.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <torch/csrc/distributed/c10d/HashStore.hpp>

namespace hone::engine {
namespace {

using std::chrono::milliseconds;
constexpr milliseconds kLong{600000}, kShort{500};

/// A store of one process, which can stop answering.
class StoppingStore : public c10d::HashStore {
 public:
  c10::intrusive_ptr<c10d::Store> clone() override {
    return c10::intrusive_ptr<c10d::Store>::reclaim_copy(this);
  }
  int64_t add(const std::string& key, int64_t value) override {
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return !stopped_; });
    }
    return HashStore::add(key, value);
  }
  void stop(bool stopped) {
    const std::lock_guard lock(mutex_);
    stopped_ = stopped;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopped_ = false;
};

Watch::Failure await_failure(Watch& watch) {
  for (;;) {
    if (const auto failure = watch.failure()) return *failure;
    std::this_thread::sleep_for(milliseconds(1));
  }
}

TEST(Watch, ARankThatStopsCountingIsNamedToAll) {
  const auto store = c10::make_intrusive<StoppingStore>();
  Watch first(store, 0, 3, kLong), third(store, 2, 3, kLong);
  { const Watch second(store, 1, 3, kLong); }
  first.set_silence(kShort);
  for (Watch* watch : {&first, &third}) {
    const auto failure = await_failure(*watch);
    EXPECT_EQ(failure.message.find("rank 1 has died or hangs: nothing heard from it for "), 0u)
        << failure.message;
    EXPECT_TRUE(failure.lost);
    EXPECT_EQ(failure.speaker, 0);
    EXPECT_EQ(failure.exit_code, 1);
  }
  EXPECT_FALSE(first.store_is_silent());
}

TEST(Watch, TheFirstFailureIsEveryRanks) {
  const auto store = c10::make_intrusive<StoppingStore>();
  Watch first(store, 0, 2, kLong), second(store, 1, 2, kLong);
  EXPECT_FALSE(first.failure());
  Watch::Failure theirs;
  std::thread other([&] { theirs = second.fail({2, "rank 1: no such file", false, 0}); });
  const auto mine = first.fail({1, "rank 0: disk full", false, 0});
  other.join();
  EXPECT_EQ(mine.message, theirs.message);
  EXPECT_EQ(mine.exit_code, theirs.exit_code);
  EXPECT_EQ(mine.message, mine.exit_code == 2 ? "rank 1: no such file" : "rank 0: disk full");
  EXPECT_EQ(second.fail({3, "later", false, 0}).message, mine.message);
}

TEST(Watch, AStoreThatHangsEndsTheWaitForIt) {
  const auto store = c10::make_intrusive<StoppingStore>();
  Watch watch(store, 1, 2, kShort);
  store->stop(true);
  const auto failure = watch.fail({1, "rank 1: disk full", false, 0});  // nobody can hear that
  EXPECT_EQ(failure.message.find("rank 0 has died or hangs, or the launcher"), 0u)
      << failure.message;
  EXPECT_EQ(failure.speaker, 1);
  EXPECT_TRUE(watch.store_is_silent());
  store->stop(false);  // so that its thread can be joined
}

}  // namespace
}  // namespace hone::engine
