#include "engine/distributed/communicator.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <chrono>
#include <latch>
#include <thread>

#include "tests/engine/distributed/rank_threads.h"

namespace hone::engine {
namespace {

constexpr auto kFloats = at::kFloat;

void expect_all_well(const std::vector<RankEnd>& ends) {
  for (const auto& end : ends) EXPECT_EQ(end.message, "");
}

TEST(Communicator, EveryCollectiveOnThreeRanks) {
  const int64_t dropped = Pending::dropped();
  expect_all_well(run_ranks(3, [](RankGroup& group) {
    auto& ranks = group.communicator();
    const int64_t rank = ranks.rank(), world = ranks.world();
    ASSERT_EQ(world, 3);
    const auto mine = at::full({2}, static_cast<double>(rank + 1), kFloats);

    auto sum = mine.clone();
    ranks.all_reduce(sum, Reduction::kSum, "sum").wait();
    EXPECT_TRUE(sum.eq(6).all().item<bool>());
    auto most = mine.clone();
    ranks.all_reduce(most, Reduction::kMax, "max").wait();
    EXPECT_TRUE(most.eq(3).all().item<bool>());

    auto all = at::empty({6}, kFloats);
    ranks.all_gather(all, mine, "gather").wait();
    for (int64_t i = 0; i < 6; ++i) EXPECT_EQ(all[i].item<float>(), static_cast<float>(i / 2 + 1));

    // Rank r brings 10 r + place: part s of the output of rank r is part r of rank s's input.
    const auto brought = at::arange(3, kFloats).add(10.0 * static_cast<double>(rank));
    auto exchanged = at::empty({3}, kFloats);
    ranks.all_to_all(exchanged, brought, "exchange").wait();
    for (int64_t s = 0; s < 3; ++s) {
      EXPECT_EQ(exchanged[s].item<float>(), static_cast<float>(10 * s + rank));
    }
    auto scattered = at::empty({1}, kFloats);
    ranks.reduce_scatter(scattered, brought, "scatter").wait();
    EXPECT_EQ(scattered.item<float>(), static_cast<float>(30 + 3 * rank));

    auto told = at::full({1}, static_cast<double>(rank), kFloats);
    ranks.broadcast(told, 2, "broadcast").wait();
    EXPECT_EQ(told.item<float>(), 2.0f);
    ranks.barrier("barrier");

    const auto texts =
        all_gather_bytes(ranks, std::string(static_cast<size_t>(rank), 'x'), "texts");
    EXPECT_EQ(texts, (std::vector<std::string>{"", "x", "xx"}));
    EXPECT_EQ(broadcast_bytes(ranks, rank == 1 ? "from one" : "", 1, "text"), "from one");
    EXPECT_TRUE(any_rank(ranks, rank == 1, "any"));
    EXPECT_FALSE(any_rank(ranks, false, "none"));
  }));
  EXPECT_EQ(Pending::dropped(), dropped);
}

TEST(Communicator, AsWorldOfOneItCopies) {
  auto& ranks = world_of_one();
  const auto brought = at::arange(4, kFloats);
  auto got = at::zeros({4}, kFloats);
  ranks.all_to_all(got, brought, "exchange").wait();
  EXPECT_TRUE(got.equal(brought));
  EXPECT_EQ(all_gather_bytes(ranks, "text", "texts"), std::vector<std::string>{"text"});
}

TEST(Communicator, DuplicatesSpeakFromThreadsOfTheirOwn) {
  expect_all_well(run_ranks(2, [](RankGroup& group) {
    auto& ranks = group.communicator();
    for (int again = 0; again < 2; ++again) {  // the same names once more
      const auto a = ranks.duplicate("a"), b = ranks.duplicate("b");
      const auto count = [](Communicator& own, double step) {
        for (int i = 0; i < 20; ++i) {
          auto sum = at::full({1}, step * (i + 1), kFloats);
          own.all_reduce(sum, Reduction::kSum, "count").wait();
          EXPECT_EQ(sum.item<float>(), static_cast<float>(2 * step * (i + 1)));
        }
      };
      std::thread beside([&] { count(*b, 100.0); });
      count(*a, 1.0);
      beside.join();
    }
  }));
}

TEST(Communicator, ADroppedHandleWaitsAndIsCounted) {
  const int64_t before = Pending::dropped();
  expect_all_well(run_ranks(2, [](RankGroup& group) {
    auto sum = at::full({1}, 1.0, kFloats);
    { const auto dropped = group.communicator().all_reduce(sum, Reduction::kSum, "dropped"); }
    EXPECT_EQ(sum.item<float>(), 2.0f);
  }));
  EXPECT_EQ(Pending::dropped(), before + 2);
}

TEST(RankGroup, OneRanksErrorEndsAllWithItsNameAndCode) {
  const auto ends = run_ranks(3, [](RankGroup& group) {
    auto& ranks = group.communicator();
    if (ranks.rank() == 1) throw std::runtime_error("disk full");
    auto sum = at::full({1}, 1.0, kFloats);
    ranks.all_reduce(sum, Reduction::kSum, "sum").wait();
  });
  for (const auto& end : ends) {
    EXPECT_EQ(end.message, "rank 1: disk full");
    EXPECT_EQ(end.exit_code, 1);
  }
}

TEST(RankGroup, ARankThatFailsWhileAnotherConnectsEndsIt) {
  const auto ends = run_ranks(2, [](RankGroup& group) {
    if (group.communicator().rank() == 1) throw std::runtime_error("disk full");
    group.communicator().duplicate("never met");
  });
  for (const auto& end : ends) EXPECT_EQ(end.message, "rank 1: disk full");
}

TEST(RankGroup, ARankThatNeverComesToACollectiveIsTimedOut) {
  RankLimits limits;
  limits.collective = std::chrono::milliseconds(300);
  std::latch given_up(1);
  const auto ends = run_ranks(
      2,
      [&](RankGroup& group) {
        auto& ranks = group.communicator();
        if (ranks.rank() == 1) {
          given_up.wait();
          for (;;) ranks.barrier("meeting");  // too late, and never a second time
        }
        try {
          ranks.barrier("meeting");
        } catch (...) {
          given_up.count_down();
          throw;
        }
      },
      limits);
  for (const auto& end : ends) {
    EXPECT_NE(end.message.find("rank 0 waited for the others"), std::string::npos) << end.message;
    EXPECT_NE(end.message.find("'meeting'"), std::string::npos) << end.message;
  }
}

TEST(RankGroup, APatientBarrierOutlastsTheLimit) {
  RankLimits limits;
  limits.collective = std::chrono::milliseconds(300);
  expect_all_well(run_ranks(
      2,
      [](RankGroup& group) {
        if (group.communicator().leads()) {
          std::this_thread::sleep_for(std::chrono::milliseconds(1000));
        }
        group.communicator().barrier("work of rank 0", /*patient=*/true);
      },
      limits));
}

TEST(RankGroup, RanksThatDisagreeAreNamed) {
  const auto ends = run_ranks(3, [](RankGroup& group) {
    agree(group.communicator(), "recipe", group.communicator().rank() == 2 ? "b" : "a");
  });
  for (const auto& end : ends) {
    EXPECT_NE(end.message.find("recipe"), std::string::npos) << end.message;
    EXPECT_NE(end.message.find("rank 2 has another than rank 0"), std::string::npos) << end.message;
  }
}

TEST(RankGroup, WhoStaysAwayIsNamed) {
  RankLimits limits;
  limits.meeting = std::chrono::milliseconds(1500);
  const int64_t port = free_port();
  try {
    RankGroup group(environment_of(0, 3, port), "test", limits);
    FAIL() << "two ranks never came";
  } catch (const std::exception& error) {
    EXPECT_NE(std::string(error.what()).find("ranks 1, 2 did not come"), std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace hone::engine
