// moments, whiten and group_advantages against two-pass formulas.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "kernels/ops.h"
#include "tests/kernels/expect_message.h"
#include "tests/support/expect_close.h"

namespace hone::kernels {
namespace {

using test::expect_close;
using test::expect_message;

TEST(Whiten, MatchesTheTwoPassFormula) {
  at::manual_seed(1);
  for (const int64_t n : {2, 3, 31, 1024, 5000}) {
    for (const bool unbiased : {false, true}) {
      const Tensor x = 2 * at::randn({n}, at::kDouble) + 5;
      Tensor mask = at::rand({n}) < 0.7;
      mask[0].fill_(true), mask[1].fill_(true);
      const Tensor kept = x.masked_select(mask);
      const Tensor stats = moments(x, mask);
      EXPECT_EQ(stats[2].item<double>(), kept.numel());
      const Tensor mean = kept.mean(), scale = (kept.var(unbiased) + 1e-8).rsqrt();
      expect_close(whiten(x, stats, unbiased, true), (x - mean) * scale, 1e-10);
      expect_close(whiten(x, stats, unbiased, false), (x - mean) * scale + mean, 1e-10);
      expect_close(whiten(x.to(at::kFloat), stats, unbiased, true), (x - mean) * scale, 1e-5);
    }
  }
}

TEST(Whiten, DoubleLoopsOnTenThousandRandomShapesAndMasks) {
  std::mt19937 rng(4);
  std::normal_distribution<double> normal;
  for (int round = 0; round < 10000; ++round) {
    const size_t n = rng() % (round % 20 == 0 ? 3000 : 50);
    const bool masked = rng() % 2, unbiased = rng() % 2, shift = rng() % 2;
    std::vector<double> x(n);
    std::vector<int64_t> kept(n);
    double sum = 0, count = 0, squares = 0;
    for (size_t i = 0; i < n; ++i) {
      x[i] = 3 + normal(rng), kept[i] = rng() % 3 != 0;
      if (!masked || kept[i]) sum += x[i], count += 1;
    }
    const double mean = count > 0 ? sum / count : 0;
    for (size_t i = 0; i < n; ++i) {
      if (!masked || kept[i]) squares += (x[i] - mean) * (x[i] - mean);
    }
    const double variance = count < 2 ? 0 : squares / (unbiased ? count - 1 : count);
    std::vector<double> want(n);
    for (size_t i = 0; i < n; ++i) {
      const double scaled = (x[i] - mean) / std::sqrt(variance + 1e-8);
      want[i] = count > 0 ? scaled + (shift ? 0 : mean) : x[i];
    }
    const Tensor in = at::tensor(x, at::kDouble);
    const Tensor mask = at::tensor(kept, at::kLong).to(at::kBool);
    const Tensor stats = moments(in, masked ? OptionalTensor(mask) : std::nullopt);
    EXPECT_EQ(stats[2].item<double>(), count);
    // One value has variance 0: what rounding leaves of x - mean is multiplied by 10^4.
    expect_close(whiten(in, stats, unbiased, shift), at::tensor(want, at::kDouble), 1e-9, 1e-9,
                 std::to_string(round));
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(Whiten, OfNothingOrOneValueIsFinite) {
  const Tensor one = at::full({1}, 3.0, at::kDouble), none = at::empty({0}, at::kDouble);
  for (const bool unbiased : {false, true}) {
    EXPECT_EQ(whiten(one, moments(one, std::nullopt), unbiased, true).item<double>(), 0);
    EXPECT_EQ(whiten(one, moments(one, std::nullopt), unbiased, false).item<double>(), 3);
    EXPECT_EQ(whiten(none, moments(none, std::nullopt), unbiased, true).numel(), 0);
  }
}

TEST(Whiten, KeepsShapeAndNamesBadStats) {
  const Tensor x = at::rand({2, 3});
  const Tensor stats = moments(x.flatten(), std::nullopt);
  EXPECT_EQ(whiten(x, stats, true, true).sizes(), x.sizes());
  expect_message([&] { whiten(x, stats.slice(0, 0, 3), true, true); },
                 "whiten: stats: expected [4] = [4], got Double [3] on cpu");
  expect_message([&] { whiten(x, stats.to(at::kFloat), true, true); },
                 "whiten: stats: expected Double, got Float [4] on cpu");
  expect_message([&] { moments(x, std::nullopt); },
                 "moments: x: expected 1 dimension, got Float [2, 3] on cpu");
}

}  // namespace
}  // namespace hone::kernels
