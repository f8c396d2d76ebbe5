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
