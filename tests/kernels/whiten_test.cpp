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

TEST(GroupAdvantages, MatchTheFormulas) {
  std::mt19937 rng(2);
  std::normal_distribution<double> normal;
  for (int i = 0; i < 500; ++i) {
    const int64_t n = 1 + rng() % 9, groups = rng() % 5;
    std::vector<double> s(n * groups);
    for (double& x : s) x = normal(rng) + 10;
    const Tensor scores = at::tensor(s, at::kDouble);
    for (const std::string kind : {"grpo", "dr_grpo", "rloo"}) {
      std::vector<double> want;
      for (int64_t g = 0; g < groups; ++g) {
        double mean = 0, variance = 0;
        for (int64_t j = 0; j < n; ++j) mean += s[g * n + j] / n;
        for (int64_t j = 0; j < n; ++j) variance += std::pow(s[g * n + j] - mean, 2) / (n - 1);
        for (int64_t j = 0; j < n; ++j) {
          const double x = s[g * n + j];
          if (n == 1) {
            want.push_back(0);
          } else if (kind == "grpo") {
            want.push_back((x - mean) / (std::sqrt(variance) + 1e-4));
          } else if (kind == "dr_grpo") {
            want.push_back(x - mean);
          } else {
            want.push_back(x - (n * mean - x) / (n - 1));
          }
        }
      }
      expect_close(group_advantages(scores, n, kind, 1e-4), at::tensor(want, at::kDouble), 1e-9, 0,
                   kind);
    }
  }
}

TEST(GroupAdvantages, EqualScoresGiveExactlyZero) {
  for (const std::string kind : {"grpo", "dr_grpo", "rloo"}) {
    const Tensor out = group_advantages(at::full({6}, 0.1, at::kDouble), 3, kind, 0);
    EXPECT_TRUE(at::equal(out, at::zeros({6}, at::kDouble))) << kind;
  }
}

TEST(GroupAdvantages, ErrorsNameArgumentExpectedAndGot) {
  const Tensor x = at::zeros({6});
  expect_message([&] { group_advantages(x, 4, "grpo", 0); },
                 "group_advantages: scores: expected a multiple of group_size = 4 values, got 6");
  expect_message([&] { group_advantages(x, 0, "grpo", 0); },
                 "group_advantages: group_size: expected a number >= 1, got 0");
  expect_message([&] { group_advantages(x, 3, "gspo", 0); },
                 "group_advantages: kind: expected \"grpo\", \"dr_grpo\" or \"rloo\", got "
                 "\"gspo\"");
  expect_message([&] { group_advantages(x, 3, "grpo", -1); }, "group_advantages: eps: ");
}

}  // namespace
}  // namespace hone::kernels
