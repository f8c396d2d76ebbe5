// `advantages` against its second judge on random batches of every kind, and its invariances.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <limits>
#include <random>

#include "kernels/ops.h"
#include "tests/kernels/advantage_reference.h"
#include "tests/kernels/same_bits.h"
#include "tests/support/expect_close.h"

namespace hone::kernels {
namespace {

using hone::test::expect_close;
using test::Case;
using test::CaseTensors;
using test::random_case;
using test::Row;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

/// Errors are measured against what a row adds up: about the square root of its length.
void expect_same(const Case& c, at::ScalarType type, double tolerance, const std::string& what,
                 int64_t junk = 0) {
  const test::Reference want = test::reference(c);
  const CaseTensors tensors(c, type, junk);
  const Advantages got = tensors.run(c.options);
  const auto wanted = [&](const std::vector<double>& x) {
    return at::tensor(x, at::kDouble).view(tensors.old.sizes());
  };
  expect_close(got.advantages, wanted(want.advantages), tolerance, tolerance, what);
  expect_close(got.returns, wanted(want.returns), tolerance, tolerance, what);
  if (c.options.store_rewards) {
    expect_close(got.rewards, wanted(want.rewards), tolerance, tolerance, what);
  } else {
    EXPECT_EQ(got.rewards.numel(), 0);
  }
  EXPECT_EQ(got.stats.scalar_type(), at::kDouble);
  const double n = std::max(1.0, want.count);
  const auto stats = at::tensor({want.sum, want.squares, want.count, want.kl}, at::kDouble);
  expect_close(got.stats / n, stats / n, tolerance, 10 * tolerance, what);
}

TEST(Advantages, MatchTheTextbookOnTenThousandRandomBatches) {
  std::mt19937 rng(1);
  for (int i = 0; i < 10000; ++i) {
    Case c = random_case(rng, static_cast<int64_t>(rng() % 9), i % 10 == 0 ? 400 : 40);
    c.options.store_rewards = i % 3 != 0;
    const std::string what = std::to_string(i);
    expect_same(c, at::kDouble, 1e-10, "case " + what, i % 2 ? 0 : 3);
    if (i % 4 == 0) expect_same(c, at::kFloat, 5e-5, "float case " + what);
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(Advantages, ExtremeShapes) {
  std::mt19937 rng(2);
  const std::pair<int64_t, int64_t> shapes[] = {{1, 1 << 20}, {4, 131072}, {512, 256}, {700, 1},
                                                {5, 0},       {0, 7},      {3, 1021},  {5, 47},
                                                {5, 48},      {5, 49},     {5, 64},    {5, 65}};
  for (const auto& [rows, length] : shapes) {
    for (const char* estimator : {"gae", "vtrace"}) {
      Case c = random_case(rng, 0, 0);
      c.padded = rng() % 2;
      c.with_mask = c.with_lengths = false;
      c.width = length;
      for (int64_t i = 0; i < rows; ++i) c.rows.push_back(test::random_row(rng, length));
      c.options.estimator = estimator;
      const std::string what = std::to_string(rows) + " x " + std::to_string(length) + estimator;
      expect_same(c, at::kDouble, 1e-9, what);
    }
  }
}

TEST(Advantages, VtraceIsTheSumOfItsPaper) {
  // v_s = V_s + sum_t gamma^(t-s) (prod_{i<t} c_i) rho_t delta_t, term by term.
  std::mt19937 rng(3);
  for (int round = 0; round < 50; ++round) {
    Case c = random_case(rng, 1, 100);
    c.padded = c.with_mask = c.with_lengths = c.with_bootstrap = false;
    c.with_values = true;
    c.options.estimator = "vtrace";
    const CaseTensors tensors(c, at::kDouble);
    const Advantages got = tensors.run(c.options);
    const Row& row = c.rows[0];
    const auto n = static_cast<int64_t>(row.old.size());
    const AdvantageOptions& o = c.options;
    for (int64_t s = 0; s < n; ++s) {
      double v = row.values[s], weight = 1;
      for (int64_t t = s; t < n; ++t) {
        const double ratio = std::exp(row.old[t] - row.behaviour[t]);
        const double next = t + 1 < n ? row.values[t + 1] : 0;
        v += weight * std::min(o.rho_clip, ratio) *
             (got.rewards[t].item<double>() + o.gamma * next - row.values[t]);
        weight *= o.gamma * o.lambda * std::min(o.c_clip, ratio);
      }
      EXPECT_NEAR(got.returns[s].item<double>(), v, 1e-9);
    }
  }
}

TEST(Advantages, MaskedInputsAreNeverRead) {
  std::mt19937 rng(4);
  for (int i = 0; i < 300; ++i) {
    Case c = random_case(rng, 4, 150);
    c.with_mask = true;
    if (c.options.placement == "after_last") c.options.placement = "last";
    const Advantages want = CaseTensors(c, at::kDouble).run(c.options);
    for (Row& row : c.rows) {
      for (size_t t = 0; t < row.old.size(); ++t) {
        if (c.trained(row, t)) continue;
        row.old[t] = row.ref[t] = row.values[t] = row.token_rewards[t] = row.behaviour[t] = kNan;
      }
    }
    const Advantages got = CaseTensors(c, at::kDouble).run(c.options);
    EXPECT_TRUE(at::equal(got.advantages, want.advantages));
    EXPECT_TRUE(at::equal(got.returns, want.returns));
    EXPECT_TRUE(at::equal(got.stats, want.stats));
  }
}

TEST(Advantages, ThreadsAndPackingOrderChangeNoBit) {
  std::mt19937 rng(5);
  for (int round = 0; round < 20; ++round) {
    Case c = random_case(rng, 200, 300);
    const auto compute = [&] {
      const Advantages a = CaseTensors(c, at::kFloat).run(c.options);
      return std::vector<Tensor>{a.advantages, a.returns, a.rewards, a.stats};
    };
    hone::test::expect_same_bits_on_any_threads(compute, std::to_string(round));
    if (c.padded) continue;
    const Advantages forward = CaseTensors(c, at::kFloat).run(c.options);
    std::reverse(c.rows.begin(), c.rows.end());
    const Advantages backward = CaseTensors(c, at::kFloat).run(c.options);
    int64_t from = 0, to = forward.returns.numel();
    for (auto row = c.rows.rbegin(); row != c.rows.rend(); ++row) {
      const auto n = static_cast<int64_t>(row->old.size());
      to -= n;
      EXPECT_TRUE(
          at::equal(forward.advantages.narrow(0, from, n), backward.advantages.narrow(0, to, n)));
      EXPECT_TRUE(at::equal(forward.returns.narrow(0, from, n), backward.returns.narrow(0, to, n)));
      from += n;
    }
    expect_close(forward.stats, backward.stats, 1e-9, 1e-12, "stats");
  }
}

TEST(Advantages, SideAndAmountOfPaddingChangeNoBit) {
  std::mt19937 rng(6);
  for (int round = 0; round < 200; ++round) {
    Case packed = random_case(rng, 6, 200);
    packed.padded = packed.with_lengths = packed.with_mask = false;
    if (packed.options.placement == "after_last") packed.options.placement = "last";
    const Advantages want = CaseTensors(packed, at::kFloat).run(packed.options);
    Case padded = packed;
    padded.padded = padded.with_mask = true;
    size_t longest = 0;
    for (const Row& row : packed.rows) longest = std::max(longest, row.old.size());
    padded.width = static_cast<int64_t>(longest + rng() % 40);
    for (Row& row : padded.rows) {
      const size_t size = row.old.size(), free = static_cast<size_t>(padded.width) - size;
      const size_t left = round % 3 == 0 ? 0 : round % 3 == 1 ? free : rng() % (free + 1);
      const auto pad = [&](auto& x, double filler) {
        x.insert(x.begin(), left,
                 static_cast<typename std::decay_t<decltype(x)>::value_type>(filler));
        x.resize(static_cast<size_t>(padded.width),
                 static_cast<typename std::decay_t<decltype(x)>::value_type>(filler));
      };
      row.kept.assign(size, 1);
      pad(row.kept, 0);
      for (auto* x : {&row.old, &row.ref, &row.values, &row.token_rewards, &row.behaviour}) {
        pad(*x, kNan);
      }
    }
    const CaseTensors tensors(padded, at::kFloat);
    const Advantages got = tensors.run(padded.options);
    const Tensor kept = tensors.mask->to(at::kBool);
    EXPECT_TRUE(at::equal(got.advantages.masked_select(kept), want.advantages));
    EXPECT_TRUE(at::equal(got.returns.masked_select(kept), want.returns));
    EXPECT_TRUE(at::equal(got.stats, want.stats));
    EXPECT_EQ(got.returns.masked_select(kept.logical_not()).count_nonzero().item<int64_t>(), 0);
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(Advantages, LengthsAreAMask) {
  std::mt19937 rng(7);
  for (int round = 0; round < 200; ++round) {
    Case c = random_case(rng, 5, 120);
    c.padded = true, c.with_lengths = true, c.with_mask = false;
    for (Row& row : c.rows) {
      row = test::random_row(rng, c.width);
      row.kept.assign(static_cast<size_t>(c.width), 0);
      std::fill_n(row.kept.begin(), row.length, uint8_t(1));
    }
    const Advantages by_length = CaseTensors(c, at::kFloat).run(c.options);
    c.with_lengths = false, c.with_mask = true;
    const Advantages by_mask = CaseTensors(c, at::kFloat).run(c.options);
    EXPECT_TRUE(at::equal(by_length.advantages, by_mask.advantages));
    EXPECT_TRUE(at::equal(by_length.returns, by_mask.returns));
    EXPECT_TRUE(at::equal(by_length.stats, by_mask.stats));
  }
}

TEST(Advantages, WhitenedAdvantagesIgnoreAConstantInTheScore) {
  std::mt19937 rng(8);
  Case c = random_case(rng, 20, 30);
  c.with_mask = c.with_lengths = false;
  c.with_scores = true;
  c.options = {};
  c.options.lambda = 1;  // then a constant in the score shifts every advantage alike
  c.with_ref = true;
  const Advantages before = CaseTensors(c, at::kDouble).run(c.options);
  for (Row& row : c.rows) row.score += 7;
  const Advantages after = CaseTensors(c, at::kDouble).run(c.options);
  for (bool unbiased : {false, true}) {
    expect_close(whiten(after.advantages, after.stats, unbiased, true),
                 whiten(before.advantages, before.stats, unbiased, true), 1e-10);
  }
}

TEST(Advantages, ReadsAnyLayoutAndBfloat16) {
  const Tensor base = at::randn({6, 2 * 70}), scores = at::randn({6, 2}).select(1, 0);
  const Tensor x = base.narrow(1, 0, 70), columns = at::randn({70, 6}).t();
  AdvantageOptions o;
  o.kl_coef = 0.1;
  const auto plain = [](const Tensor& t) { return t.contiguous(); };
  const Advantages got = advantages(x, columns, x, scores, std::nullopt, std::nullopt, o);
  const Advantages want =
      advantages(plain(x), plain(columns), plain(x), plain(scores), std::nullopt, std::nullopt, o);
  EXPECT_TRUE(at::equal(got.advantages, want.advantages));
  const Tensor one_row = at::randn({1, 70}).expand({6, 70});  // row stride 0
  EXPECT_TRUE(at::equal(
      advantages(one_row, x, one_row, scores, std::nullopt, std::nullopt, o).returns,
      advantages(plain(one_row), plain(x), plain(one_row), scores, std::nullopt, std::nullopt, o)
          .returns));
  const Tensor half = x.to(at::kBFloat16);
  const Advantages low = advantages(half, columns, half, scores, std::nullopt, std::nullopt, o);
  EXPECT_EQ(low.advantages.scalar_type(), at::kFloat);
  const Tensor wide = half.to(at::kFloat);
  EXPECT_TRUE(
      at::equal(low.advantages,
                advantages(wide, columns, wide, scores, std::nullopt, std::nullopt, o).advantages));
}

TEST(Advantages, IntoWritesTheSame) {
  std::mt19937 rng(9);
  for (int round = 0; round < 50; ++round) {
    const Case c = random_case(rng, 5, 90);
    const CaseTensors t(c, at::kFloat);
    const Advantages want = t.run(c.options);
    const auto fresh = [](const Tensor& x) { return at::full_like(x, 99); };
    const Advantages out{fresh(want.advantages), fresh(want.returns), fresh(want.rewards),
                         fresh(want.stats)};
    advantages_into(out, t.old, t.ref, t.values, t.scores, t.cu_seqlens, t.mask, c.options,
                    t.extras);
    EXPECT_TRUE(at::equal(out.advantages, want.advantages));
    EXPECT_TRUE(at::equal(out.returns, want.returns));
    EXPECT_TRUE(at::equal(out.rewards, want.rewards));
    EXPECT_TRUE(at::equal(out.stats, want.stats));
  }
}

}  // namespace
}  // namespace hone::kernels
