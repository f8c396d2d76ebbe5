#include "engine/optim/optimizer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numbers>

#include "data/error.h"
#include "tests/support/expect_close.h"

namespace hone::engine {
namespace {

/// A small arena: embedding, two stacked matrices inside a block, a norm.
void fill_arena(ParameterArena& arena, at::ScalarType dtype) {
  arena.add_leaf({{"embed", {7, 3}}}, true, -1);
  arena.add_leaf({{"q", {4, 3}}, {"k", {2, 3}}}, true, 0);
  arena.add_leaf({{"down", {3, 5}}}, true, 0);
  arena.add_leaf({{"norm", {3}}}, false, -1);
  arena.allocate(dtype, at::kCPU);
  arena.enable_grad();
  arena.data().copy_(at::linspace(-1, 1, arena.data().numel(), at::kDouble));
}

at::Tensor gradient(const ParameterArena& arena, int64_t step) {
  const auto x = at::arange(arena.data().numel(), arena.data().options());
  auto g = at::zeros_like(x);
  for (const auto& leaf : arena.leaves()) {  // padding between leaves has no gradient
    g.narrow(0, leaf.offset, leaf.numel)
        .copy_(at::sin(x.narrow(0, leaf.offset, leaf.numel) * 0.7 + static_cast<double>(step)));
  }
  return g;
}

TEST(Schedule, Values) {
  OptimizerOptions o{.warmup_steps = 4, .schedule = "cosine", .final_lr_fraction = 0.1};
  EXPECT_DOUBLE_EQ(schedule_factor(o, 0, 104), 0.25);
  EXPECT_DOUBLE_EQ(schedule_factor(o, 3, 104), 1.0);
  EXPECT_DOUBLE_EQ(schedule_factor(o, 4, 104), 1.0);
  EXPECT_NEAR(schedule_factor(o, 54, 104), 0.55, 1e-12);
  EXPECT_NEAR(schedule_factor(o, 29, 104), 0.1 + 0.45 * (1 + std::cos(std::numbers::pi / 4)),
              1e-12);
  EXPECT_NEAR(schedule_factor(o, 104, 104), 0.1, 1e-12);
  EXPECT_NEAR(schedule_factor(o, 1000, 104), 0.1, 1e-12);
  o.schedule = "linear";
  EXPECT_NEAR(schedule_factor(o, 29, 104), 0.775, 1e-12);
  o.schedule = "constant";
  EXPECT_EQ(schedule_factor(o, 90, 104), 1.0);
  o.schedule = "cosin";
  EXPECT_THROW(schedule_factor(o, 90, 104), data::InputError);
}

TEST(Optimizer, AdamWEqualsAPlainLoop) {
  ParameterArena arena;
  fill_arena(arena, at::kDouble);
  const OptimizerOptions options{.lr = 0.02,
                                 .beta1 = 0.9,
                                 .beta2 = 0.98,
                                 .eps = 1e-8,
                                 .weight_decay = 0.1,
                                 .clip_norm = 1.0,
                                 .warmup_steps = 2,
                                 .schedule = "linear",
                                 .final_lr_fraction = 0.5};
  Optimizer optimizer(arena, options, 5);

  const auto n = static_cast<size_t>(arena.data().numel());
  std::vector<double> p(n), m(n, 0.0), v(n, 0.0), decay(n, 0.0);
  const auto* start = arena.data().const_data_ptr<double>();
  p.assign(start, start + n);
  for (const auto& leaf : arena.leaves()) {
    for (int64_t i = 0; i < leaf.numel; ++i) {
      decay[static_cast<size_t>(leaf.offset + i)] = leaf.decay ? 0.1 : 0.0;
    }
  }
  const double factors[] = {0.5, 1.0, 1.0, 1.0 - 0.5 / 3, 1.0 - 1.0 / 3};
  for (int64_t step = 0; step < 5; ++step) {
    const auto g = gradient(arena, step);
    arena.grad().copy_(g);
    double square = 0;
    for (size_t i = 0; i < n; ++i) square += std::pow(g[static_cast<int64_t>(i)].item<double>(), 2);
    const double norm = std::sqrt(square), scale = std::min(1.0, 1.0 / (norm + 1e-6));
    const double lr = 0.02 * factors[step];
    EXPECT_NEAR(optimizer.lr(), lr, 1e-15);
    for (size_t i = 0; i < n; ++i) {
      const double gi = g[static_cast<int64_t>(i)].item<double>() * scale;
      m[i] = 0.9 * m[i] + 0.1 * gi;
      v[i] = 0.98 * v[i] + 0.02 * gi * gi;
      const double mh = m[i] / (1 - std::pow(0.9, step + 1));
      const double vh = v[i] / (1 - std::pow(0.98, step + 1));
      p[i] -= lr * decay[i] * p[i];
      p[i] -= lr * mh / (std::sqrt(vh) + 1e-8);
    }
    EXPECT_NEAR(optimizer.step(), norm, 1e-12);
    EXPECT_EQ(arena.grad().abs().max().item<double>(), 0.0);
  }
  const auto padding = at::ones_like(arena.data());
  for (const auto& leaf : arena.leaves()) {
    test::expect_close(arena.data().narrow(0, leaf.offset, leaf.numel),
                       at::tensor(p, at::kDouble).narrow(0, leaf.offset, leaf.numel), 1e-12);
  }
  EXPECT_EQ(optimizer.steps_done(), 5);
}

TEST(Optimizer, StopsAtANonFiniteGradientAndChangesNothing) {
  ParameterArena arena;
  fill_arena(arena, at::kFloat);
  Optimizer optimizer(arena, {}, 10);
  const auto before = arena.data().clone();
  arena.grad()[3].fill_(std::numeric_limits<float>::quiet_NaN());
  try {
    optimizer.step();
    FAIL() << "no error";
  } catch (const data::Error& error) {
    EXPECT_NE(std::string(error.what()).find("step 1"), std::string::npos) << error.what();
  }
  EXPECT_TRUE(at::equal(arena.data(), before));
  EXPECT_EQ(optimizer.steps_done(), 0);
}

TEST(Optimizer, RefusesImpossibleOptions) {
  ParameterArena arena;
  fill_arena(arena, at::kFloat);
  EXPECT_THROW(Optimizer(arena, {.kind = "adam"}, 1), data::InputError);
  EXPECT_THROW(Optimizer(arena, {.lr = -1}, 1), data::InputError);
  EXPECT_THROW(Optimizer(arena, {.beta2 = 1.0}, 1), data::InputError);
  EXPECT_THROW(Optimizer(arena, {.schedule = "step"}, 1), data::InputError);
}

TEST(Orthogonalize, BringsSingularValuesNearOne) {
  for (const auto& [rows, cols] :
       std::vector<std::pair<int64_t, int64_t>>{{8, 8}, {24, 6}, {6, 24}}) {
    auto x = at::sin(at::arange(2 * rows * cols, at::kDouble).square()).view({2, rows, cols});
    const auto y = orthogonalize(x);
    ASSERT_EQ(y.sizes(), x.sizes());
    const auto [ux, sx, vx] = at::linalg_svd(x, false);
    const auto sy = at::linalg_svdvals(y);
    EXPECT_GT(sy.min().item<double>(), 0.3) << rows << "x" << cols;
    EXPECT_LT(sy.max().item<double>(), 1.25) << rows << "x" << cols;
    // The same singular vectors: U^T y V is diagonal.
    auto core = at::matmul(at::matmul(ux.transpose(1, 2), y), vx.transpose(1, 2));
    core = core - at::diag_embed(at::diagonal(core, 0, 1, 2));
    EXPECT_LT(core.abs().max().item<double>(), 1e-6);
  }
}

TEST(Optimizer, MuonMovesBlockMatricesAndAdamWTheRest) {
  ParameterArena muon_arena, adam_arena;
  fill_arena(muon_arena, at::kDouble);
  fill_arena(adam_arena, at::kDouble);
  OptimizerOptions options{.kind = "muon", .lr = 0.01, .weight_decay = 0.0, .clip_norm = 0.0};
  options.schedule = "constant";
  Optimizer muon(muon_arena, options, 4);
  options.kind = "adamw";
  Optimizer adam(adam_arena, options, 4);
  const auto start = muon_arena.data().clone();
  const auto g = gradient(muon_arena, 1);
  muon_arena.grad().copy_(g);
  adam_arena.grad().copy_(g);
  muon.step();
  adam.step();
  for (const char* name : {"embed", "norm"}) {
    test::expect_close(muon_arena.slice(name), adam_arena.slice(name), 1e-15, 0, name);
  }
  // First step: the average is 0.05 g and the look-ahead lerp(g, average, 0.95) points along g, so
  // the update is the orthogonal factor of g of each named matrix by itself.
  for (const auto& slice : muon_arena.slices()) {
    if (slice.name != "q" && slice.name != "k" && slice.name != "down") continue;
    const auto gi = g.narrow(0, slice.offset, slice.numel).view(slice.shape);
    const double rate = 0.1 * std::sqrt(std::max(1.0, double(slice.shape[0]) / slice.shape[1]));
    const auto want =
        start.narrow(0, slice.offset, slice.numel).view(slice.shape) - rate * orthogonalize(gi);
    test::expect_close(muon_arena.slice(slice.name), want, 1e-6, 0, slice.name);
  }
}

}  // namespace
}  // namespace hone::engine
