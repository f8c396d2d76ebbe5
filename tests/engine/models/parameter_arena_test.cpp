#include "engine/models/parameter_arena.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <set>

#include "data/error.h"
#include "engine/models/layout.h"
#include "tests/engine/models/tiny_config.h"
#include "tests/support/expect_close.h"

namespace hone::engine {
namespace {

TEST(ParameterArena, LeavesAreAlignedAndDoNotOverlap) {
  ParameterArena arena;
  declare_parameters(test::tiny_config(), HeadKind::kLanguageModel, arena);
  arena.allocate(at::kFloat, at::kCPU);
  int64_t end = 0;
  for (const ParameterLeaf& leaf : arena.leaves()) {
    EXPECT_EQ(leaf.offset * 4 % 64, 0);
    EXPECT_GE(leaf.offset, end);
    end = leaf.offset + leaf.numel;
  }
  EXPECT_LE(end, arena.data().numel());
  int64_t held = 0;
  for (const ParameterSlice& slice : arena.slices()) held += slice.numel;
  EXPECT_EQ(held, test::tiny_config().parameter_count());
}

TEST(ParameterArena, DecayedMatricesComeBeforeVectors) {
  ParameterArena arena;
  declare_parameters(test::tiny_config(), HeadKind::kScalar, arena);
  bool vectors = false;
  for (const ParameterLeaf& leaf : arena.leaves()) {
    if (!leaf.decay) vectors = true;
    EXPECT_EQ(leaf.decay, !vectors);
    EXPECT_EQ(leaf.shape.size() == 2, leaf.decay);
  }
  EXPECT_TRUE(vectors);
}

TEST(ParameterArena, SlicesOfALeafAreItsRowsInOrder) {
  ParameterArena arena;
  const int64_t leaf = arena.add_leaf({{"a", {2, 3}}, {"b", {1, 3}}}, true, -1);
  arena.add_leaf({{"c", {5}}}, false, -1);
  arena.allocate(at::kDouble, at::kCPU);
  arena.slice("a").fill_(1.0);
  arena.slice("b").fill_(2.0);
  const auto want = at::tensor({1., 1., 1., 1., 1., 1., 2., 2., 2.}, at::kDouble).view({3, 3});
  EXPECT_TRUE(at::equal(arena.leaf(leaf), want));
  EXPECT_EQ(arena.data().sum().item<double>(), 12.0);
  EXPECT_THROW(arena.slice("d"), data::InputError);
}

TEST(ParameterArena, BackwardAccumulatesInPlace) {
  ParameterArena arena;
  const int64_t w = arena.add_leaf({{"w", {3, 4}}}, true, -1);
  const int64_t b = arena.add_leaf({{"b", {3}}}, false, -1);
  arena.allocate(at::kDouble, at::kCPU);
  arena.enable_grad();
  const void* storage = arena.grad().data_ptr();
  const void* leaf_grad = arena.leaf(w).grad().data_ptr();
  const auto x = at::rand({2, 4}, at::kDouble);
  for (int i = 0; i < 2; ++i) at::addmm(arena.leaf(b), x, arena.leaf(w).t()).sum().backward();
  EXPECT_EQ(arena.grad().data_ptr(), storage);
  EXPECT_EQ(arena.leaf(w).grad().data_ptr(), leaf_grad);
  EXPECT_EQ(leaf_grad, storage);
  test::expect_close(arena.grad().narrow(0, 0, 12).view({3, 4}), 2 * x.sum(0, true).expand({3, 4}),
                     1e-12);
  test::expect_close(arena.leaf(b).grad(), at::full({3}, 4.0, at::kDouble), 1e-12);
  arena.zero_grad();
  EXPECT_EQ(arena.leaf(w).grad().abs().sum().item<double>(), 0.0);
}

TEST(ParameterArena, UpdatesOfTheFlatDataReachLeavesAndTheirGraphsNotice) {
  ParameterArena arena;
  const int64_t w = arena.add_leaf({{"w", {2, 2}}}, true, -1);
  arena.allocate(at::kDouble, at::kCPU);
  arena.enable_grad();
  const auto square = arena.leaf(w).pow(2).sum();
  {
    const at::NoGradGuard no_grad;
    arena.data().add_(1.0);
  }
  EXPECT_EQ(arena.leaf(w).sum().item<double>(), 4.0);
  EXPECT_TRUE(arena.leaf(w).is_leaf());
  EXPECT_THROW(square.backward(), c10::Error) << "weights changed between forward and backward";
}

}  // namespace
}  // namespace hone::engine
