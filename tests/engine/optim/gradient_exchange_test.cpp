#include "engine/optim/gradient_exchange.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "engine/distributed/shard_tree.h"
#include "engine/optim/optimizer.h"
#include "tests/engine/distributed/rank_threads.h"

namespace hone::engine {
namespace {

/// Three matrices and a vector; sizes that no number of shards divides.
ParameterArena make_arena(at::ScalarType dtype = at::kFloat) {
  ParameterArena arena;
  arena.add_leaf({{"embedding", {37, 11}}}, true, -1);
  arena.add_leaf({{"up", {29, 13}}}, true, 0);
  arena.add_leaf({{"down", {13, 29}}}, true, 0);
  arena.add_leaf({{"norm", {13}}}, false, -1);
  arena.allocate(dtype, at::kCPU);
  auto generator = at::detail::createCPUGenerator(5);
  arena.data().normal_(0.0, 1.0, generator);
  return arena;
}

/// A loss whose gradient depends on step and logical shard, through every leaf.
at::Tensor loss_of(const ParameterArena& arena, int64_t step, int64_t shard) {
  at::Tensor loss = at::zeros({}, arena.data().options());
  for (size_t i = 0; i < arena.leaves().size(); ++i) {
    const auto leaf = arena.leaf(static_cast<int64_t>(i));
    const double slope = std::sin(static_cast<double>(1 + i + 7 * shard + 31 * step));
    loss = loss + leaf.mul(slope).add(0.1 * static_cast<double>(shard)).sin().sum();
  }
  return loss;
}

struct Trained {
  at::Tensor parameters;
  std::vector<double> norms;
};

/// Three steps of four shards on the ranks of `communicator`.
Trained train(Communicator& communicator, int64_t zero, int64_t shards, int64_t bucket_bytes,
              bool overlapped, const std::string& kind = "adamw") {
  auto arena = make_arena();
  const RankPlan plan{&communicator, shards, zero, bucket_bytes};
  Optimizer optimizer(arena, {.kind = kind, .lr = 0.05, .weight_decay = 0.1, .clip_norm = 1.0}, 3,
                      plan);
  const auto span = shard_span(communicator, shards);
  Trained trained;
  for (int64_t step = 0; step < 3; ++step) {
    for (int64_t shard = span.begin; shard < span.end; ++shard) {
      const auto loss = loss_of(arena, step, shard);
      if (overlapped && shard + 1 == span.end) optimizer.expect_last_backward();
      loss.backward();
      optimizer.end_shard();
    }
    std::vector<double> report(static_cast<size_t>(span.count()),
                               static_cast<double>(communicator.rank()));
    trained.norms.push_back(optimizer.step(&report));
    EXPECT_EQ(static_cast<int64_t>(report.size()), shards);
    EXPECT_EQ(report.back(), static_cast<double>(communicator.world() - 1));
    EXPECT_EQ(arena.grad().abs().max().item<float>(), 0.0f);
    optimizer.hold_whole();
  }
  trained.parameters = arena.data().clone();
  return trained;
}

TEST(GradientExchange, AnyRanksStagesAndBucketsGiveTheSameBits) {
  const int64_t bucket = 1600;  // bytes: one leaf a bucket
  const auto alone = train(world_of_one(), 0, 4, bucket, false);
  for (const int64_t world : {2, 4}) {
    const auto ends = run_ranks(world, [&](RankGroup& group) {
      for (const int64_t zero : {0, 1, 2}) {
        for (const bool overlapped : {false, true}) {
          const auto trained = train(group.communicator(), zero, 4, bucket, overlapped);
          EXPECT_TRUE(trained.parameters.equal(alone.parameters))
              << world << " ranks, zero " << zero << ", overlapped " << overlapped;
          EXPECT_EQ(trained.norms, alone.norms);
        }
      }
    });
    for (const auto& end : ends) EXPECT_EQ(end.message, "");
  }
}

TEST(GradientExchange, SixShardsOnThreeRanksAndOnOne) {
  const auto alone = train(world_of_one(), 1, 6, 1 << 20, true);
  const auto ends = run_ranks(3, [&](RankGroup& group) {
    EXPECT_TRUE(
        train(group.communicator(), 1, 6, 1 << 20, true).parameters.equal(alone.parameters));
  });
  for (const auto& end : ends) EXPECT_EQ(end.message, "");
}

TEST(GradientExchange, ARanksStateIsItsShareOfTheArena) {
  const auto ends = run_ranks(4, [&](RankGroup& group) {
    auto& communicator = group.communicator();
    auto arena = make_arena();
    Optimizer optimizer(arena, {}, 1, {&communicator, 4, 1, 1600});
    auto owned = at::zeros({arena.data().numel()}, at::kFloat);
    int64_t elements = 0;
    for (const auto& interval : optimizer.owned()) {
      owned.narrow(0, interval.begin, interval.size()).add_(1);
      elements += interval.size();
    }
    EXPECT_EQ(optimizer.state().m.numel(), elements);
    EXPECT_LT(elements, arena.data().numel() / 2);
    communicator.all_reduce(owned, Reduction::kSum, "owners").wait();
    EXPECT_TRUE(owned.eq(1).all().item<bool>());  // everything has one owner
  });
  for (const auto& end : ends) EXPECT_EQ(end.message, "");
}

TEST(GradientExchange, ANanNamesItsRankAndChangesNothing) {
  for (const int64_t zero : {0, 1, 2}) {
    const auto ends = run_ranks(2, [&](RankGroup& group) {
      auto arena = make_arena();
      const auto before = arena.data().clone();
      Optimizer optimizer(arena, {}, 1, {&group.communicator(), 2, zero, 1600});
      arena.grad().fill_(1.0);
      if (!group.communicator().leads()) {
        arena.grad()[500].fill_(std::numeric_limits<float>::quiet_NaN());
      }
      optimizer.end_shard();
      try {
        optimizer.step();
      } catch (...) {
        EXPECT_TRUE(arena.data().equal(before));
        throw;
      }
    });
    for (const auto& end : ends) {
      EXPECT_NE(end.message.find("gradient of rank 1 in step 1"), std::string::npos) << end.message;
      EXPECT_EQ(end.exit_code, 1);
    }
  }
}

TEST(GradientExchange, MuonInPartsGivesTheSameBits) {
  for (const int64_t bucket : {500, 1600, 100000}) {  // matrices in pieces, one, several a bucket
    const auto alone = train(world_of_one(), 0, 4, bucket, false, "muon");
    const auto ends = run_ranks(2, [&](RankGroup& group) {
      for (const int64_t zero : {0, 1, 2}) {
        const auto trained = train(group.communicator(), zero, 4, bucket, true, "muon");
        EXPECT_TRUE(trained.parameters.equal(alone.parameters)) << bucket << ", zero " << zero;
      }
    });
    for (const auto& end : ends) EXPECT_EQ(end.message, "");
  }
}

TEST(ShardTree, HasTheShapeOfItsNumberAlone) {
  // Sums whose value depends on the order: 2^24 + 1 + 1 in float32.
  for (const int64_t n : {1, 2, 3, 5, 6, 7, 8, 12}) {
    const auto parts = at::empty({n, 3}, at::kFloat);
    for (int64_t i = 0; i < n; ++i) {
      parts[i].fill_(i % 3 == 0 ? 16777216.0 * (i % 2 ? -1 : 1)
                                : 1.0 + 0.3 * static_cast<double>(i));
    }
    TreeSum streamed;
    auto last = parts[n - 1].clone();
    for (int64_t i = 0; i + 1 < n; ++i) streamed.push(parts[i].clone());
    streamed.fold(last, 0, 3);
    auto whole = parts.clone();
    tree_sum_(whole);
    EXPECT_TRUE(last.equal(whole[0])) << n;
  }
}

TEST(ShardTree, RefusesSharesThatAreNoSubtrees) {
  EXPECT_THROW(shard_span(world_of_one(), 0), std::exception);
  const auto ends = run_ranks(2, [](RankGroup& group) {
    EXPECT_THROW(shard_span(group.communicator(), 3), std::exception);
    EXPECT_THROW(shard_span(group.communicator(), 6), std::exception);
    EXPECT_EQ(shard_span(group.communicator(), 4).begin, 2 * group.communicator().rank());
  });
  for (const auto& end : ends) EXPECT_EQ(end.message, "");
}

}  // namespace
}  // namespace hone::engine
