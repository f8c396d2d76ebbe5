// `group_advantages` against its formulas in plain double loops.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "kernels/ops.h"
#include "tests/kernels/expect_message.h"
#include "tests/kernels/same_bits.h"
#include "tests/support/expect_close.h"

namespace hone::kernels {
namespace {

using hone::test::expect_close;
using hone::test::expect_message;

const std::vector<std::string> kKinds = {"grpo",     "dr_grpo",      "rloo",
                                         "grpo_loo", "reinforce_pp", "reinforce_pp_baseline"};

double mean_of(const std::vector<double>& x) {
  double sum = 0;
  for (double v : x) sum += v;
  return sum / static_cast<double>(x.size());
}

double deviation(const std::vector<double>& x, bool unbiased) {
  double squares = 0;
  const double mean = mean_of(x), n = static_cast<double>(x.size());
  for (double v : x) squares += (v - mean) * (v - mean);
  return x.size() < 2 ? (unbiased ? 0.0 : std::sqrt(squares / n))
                      : std::sqrt(squares / (unbiased ? n - 1 : n));
}

std::vector<double> one_group(const std::vector<double>& s, const GroupAdvantageOptions& o) {
  std::vector<double> out;
  for (size_t i = 0; i < s.size(); ++i) {
    if (o.kind == "reinforce_pp") {
      out.push_back(s[i]);
      continue;
    }
    if (s.size() == 1) {
      const double raw = o.kind == "grpo" ? s[0] / (1 + o.eps) : s[0];
      out.push_back(o.singletons == "raw" ? raw : 0);
      continue;
    }
    std::vector<double> others = s;
    others.erase(others.begin() + static_cast<std::ptrdiff_t>(i));
    const bool leave_out = o.kind == "rloo" || o.kind == "grpo_loo";
    double x = s[i] - mean_of(leave_out ? others : s);
    if (o.kind == "grpo") x /= deviation(s, o.unbiased) + o.eps;
    if (o.kind == "grpo_loo") {
      const double std = deviation(others, o.unbiased);
      x = std > 1e-9 ? x / (std + o.eps) : 0;
    }
    out.push_back(x);
  }
  return out;
}

/// Whitened with every sample standing as often as its count.
std::vector<double> whitened(std::vector<double> x, const std::vector<int64_t>& counts,
                             bool unbiased) {
  double n = 0, sum = 0, squares = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    n += static_cast<double>(counts[i]);
    sum += static_cast<double>(counts[i]) * x[i];
  }
  if (n == 0) return x;
  const double mean = sum / n;
  for (size_t i = 0; i < x.size(); ++i) {
    squares += static_cast<double>(counts[i]) * (x[i] - mean) * (x[i] - mean);
  }
  const double variance = n < 2 ? 0 : squares / (unbiased ? n - 1 : n);
  for (double& v : x) v = (v - mean) / std::sqrt(variance + 1e-8);
  return x;
}

TEST(GroupAdvantages, MatchTheirFormulasOnTenThousandRandomBatches) {
  std::mt19937 rng(3);
  std::normal_distribution<double> normal;
  const auto below = [&](uint64_t n) { return static_cast<int64_t>(rng() % n); };
  for (int round = 0; round < 10000; ++round) {
    GroupAdvantageOptions o;
    o.kind = kKinds[static_cast<size_t>(below(kKinds.size()))];
    o.eps = below(2) ? 1e-4 : 1e-6;
    o.unbiased = below(3) != 0;
    o.singletons = below(2) ? "zero" : "raw";
    const bool ragged = below(2), counted = below(3) == 0;
    const int64_t size = 1 + below(9), groups = below(7), distinct = below(4);
    std::vector<int64_t> cu = {0}, counts;
    std::vector<double> scores, want;
    for (int64_t g = 0; g < groups; ++g) {
      std::vector<double> group(static_cast<size_t>(ragged ? below(10) : size));
      for (double& s : group) s = distinct == 0 ? 10 + normal(rng) : 0.1 * below(1 + distinct);
      const auto one = one_group(group, o);
      want.insert(want.end(), one.begin(), one.end());
      scores.insert(scores.end(), group.begin(), group.end());
      cu.push_back(static_cast<int64_t>(scores.size()));
    }
    for (size_t i = 0; i < scores.size(); ++i) counts.push_back(counted ? below(5) : 1);
    // A standard deviation of 0 is exact in the op, rounding here.
    for (double& x : want) x = std::abs(x) < 1e-9 ? 0 : x;
    if (o.kind.rfind("reinforce_pp", 0) == 0) want = whitened(want, counts, o.unbiased);
    const Tensor x = at::tensor(scores, at::kDouble);
    const auto call = [&](const Tensor& in) {
      return group_advantages(
          in, ragged ? 0 : size, o,
          ragged ? OptionalTensor(at::tensor(cu, at::kLong)) : std::nullopt,
          counted ? OptionalTensor(at::tensor(counts, at::kLong)) : std::nullopt);
    };
    const std::string what = o.kind + " " + std::to_string(round);
    // Deviations near 0 make the quotient large and its rounding with it.
    expect_close(call(x), at::tensor(want, at::kDouble), 2e-7, 1e-9, what);
    if (distinct == 0 && size > 3 && !ragged) {
      expect_close(call(x.to(at::kFloat)), at::tensor(want, at::kDouble), 2e-3, 1e-3, what);
    }
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(GroupAdvantages, EqualScoresGiveExactlyZero) {
  for (const std::string& kind : kKinds) {
    const Tensor out =
        group_advantages(at::full({6}, 0.1, at::kDouble), 3, {.kind = kind, .eps = 0});
    if (kind == "reinforce_pp") {  // no group: what is left is the rounding of the batch's mean
      EXPECT_LT(out.abs().max().item<double>(), 1e-11);
      continue;
    }
    EXPECT_TRUE(at::equal(out, at::zeros({6}, at::kDouble))) << kind;
  }
  // The others are equal although the group is not.
  const Tensor one = at::tensor({1.0, 0.1, 0.1, 0.1}, at::kDouble);
  EXPECT_EQ(group_advantages(one, 4, {.kind = "grpo_loo", .eps = 0})[0].item<double>(), 0);
}

TEST(GroupAdvantages, GroupsOfOne) {
  const Tensor x = at::tensor({3.0, -2.0}, at::kDouble);
  for (const std::string kind : {"grpo", "dr_grpo", "rloo", "grpo_loo"}) {
    EXPECT_EQ(group_advantages(x, 1, {.kind = kind}).count_nonzero().item<int64_t>(), 0) << kind;
    const double scale = kind == "grpo" ? 1 / (1 + 1e-6) : 1;
    expect_close(group_advantages(x, 1, {.kind = kind, .singletons = "raw"}), x * scale, 1e-15);
  }
}

TEST(GroupAdvantages, InvariantToDuplicatesOfTheGroupThreadsAndAConstant) {
  const Tensor x = at::randn({4096 * 8}, at::kDouble);
  for (const std::string& kind : kKinds) {
    const GroupAdvantageOptions biased{.kind = kind, .eps = 1e-6, .unbiased = false};
    const Tensor want = group_advantages(x, 8, biased);
    expect_close(group_advantages(x + 100, 8, biased), want, 1e-9, 1e-9, kind);
    hone::test::expect_same_bits_on_any_threads(
        [&] { return std::vector<Tensor>{group_advantages(x, 8, biased)}; }, kind);
    if (kind == "rloo" || kind == "grpo_loo") continue;  // their baselines shrink with the group
    const Tensor twice = x.view({-1, 8}).repeat({1, 2}).flatten();
    expect_close(group_advantages(twice, 16, biased).view({-1, 16}).narrow(1, 0, 8).flatten(), want,
                 1e-9, 1e-9, kind);
  }
  const Tensor strided = at::stack({x, x}, 1).select(1, 1);
  EXPECT_TRUE(at::equal(group_advantages(strided, 8, {}), group_advantages(x, 8, {})));
}

/// Groups of these sizes, with scores like a reward model's far from 0.
Tensor float_scores(const std::vector<int64_t>& sizes) {
  int64_t total = 0;
  for (const int64_t n : sizes) total += n;
  return (at::randn({total}) + 300).to(at::kFloat);
}

Tensor cu_of(const std::vector<int64_t>& sizes) {
  std::vector<int64_t> cu = {0};
  for (const int64_t n : sizes) cu.push_back(cu.back() + n);
  return at::tensor(cu, at::kLong);
}

std::vector<GroupAdvantageOptions> vector_kinds() {
  std::vector<GroupAdvantageOptions> all;
  for (const std::string kind : {"grpo", "dr_grpo", "rloo"}) {
    for (const bool unbiased : {true, false}) {
      for (const std::string singletons : {"zero", "raw"}) {
        all.push_back({.kind = kind, .eps = 1e-4, .unbiased = unbiased, .singletons = singletons});
      }
    }
  }
  return all;
}

TEST(GroupAdvantages, FloatsAreTheDoubleFormulaRoundedOnceWhateverTheSizes) {
  at::manual_seed(5);
  for (const auto& o : vector_kinds()) {
    for (const int64_t size : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33, 64, 129}) {
      for (const int64_t groups : {0, 1, 7, 9, 300}) {
        const Tensor x = float_scores({size * groups});
        const Tensor want = group_advantages(x.to(at::kDouble), size, o);
        expect_close(group_advantages(x, size, o), want, 1e-10, 1e-7,
                     o.kind + " " + std::to_string(size) + " x " + std::to_string(groups));
      }
    }
    std::mt19937 rng(6);
    for (int round = 0; round < 20; ++round) {
      std::vector<int64_t> sizes(rng() % 90);
      for (int64_t& n : sizes) n = static_cast<int64_t>(rng() % (round % 2 ? 4 : 40));
      const Tensor x = float_scores(sizes), cu = cu_of(sizes);
      const Tensor want = group_advantages(x.to(at::kDouble), 0, o, cu);
      expect_close(group_advantages(x, 0, o, cu), want, 1e-10, 1e-7, o.kind + " ragged");
    }
  }
}

TEST(GroupAdvantages, FloatsOfAGroupAreTheSameBitsInAnyPlace) {
  at::manual_seed(7);
  std::mt19937 rng(8);
  std::vector<int64_t> sizes(3000);
  for (int64_t& n : sizes) n = static_cast<int64_t>(rng() % 24);
  const Tensor x = float_scores(sizes), cu = cu_of(sizes);
  std::vector<Tensor> turned = x.split_with_sizes(sizes);
  std::reverse(turned.begin(), turned.end());
  const std::vector<int64_t> turned_sizes(sizes.rbegin(), sizes.rend());
  for (const std::string kind : {"grpo", "rloo"}) {
    const GroupAdvantageOptions o{.kind = kind};
    const Tensor out = group_advantages(x, 0, o, cu);
    std::vector<Tensor> want = out.split_with_sizes(sizes);
    std::reverse(want.begin(), want.end());
    const Tensor got = group_advantages(at::cat(turned), 0, o, cu_of(turned_sizes));
    EXPECT_TRUE(at::equal(got, at::cat(want))) << o.kind;
    hone::test::expect_same_bits_on_any_threads(
        [&] {
          return std::vector<Tensor>{group_advantages(x, 0, o, cu),
                                     group_advantages(x.narrow(0, 0, 33000), 6, o)};
        },
        o.kind);
  }
}

TEST(GroupAdvantages, EqualFloatsGiveExactlyZero) {
  for (const std::string kind : {"grpo", "dr_grpo", "rloo"}) {
    for (int64_t size = 1; size < 130; ++size) {
      const Tensor out =
          group_advantages(at::full({9 * size}, 0.1f), size, {.kind = kind, .eps = 0});
      EXPECT_EQ(out.count_nonzero().item<int64_t>(), 0) << kind << " " << size;
    }
  }
}

TEST(GroupAdvantages, ErrorsNameArgumentExpectedAndGot) {
  const Tensor x = at::zeros({6});
  const auto expect = [](const auto& call, const std::string& message) {
    expect_message(call, "group_advantages: " + message);
  };
  expect([&] { group_advantages(x, 4, {}); },
         "scores: expected a multiple of group_size = 4 values, got 6");
  expect([&] { group_advantages(x, 0, {}); }, "group_size: expected a number >= 1, got 0");
  expect(
      [&] {
        group_advantages(x.view({2, 3}), 3, {});
      },
      "scores: expected 1 dimension, got Float [2, 3] on cpu");
  expect([&] { group_advantages(x.to(at::kInt), 3, {}); },
         "scores: expected float32 or float64, got Int [6] on cpu");
  expect([&] { group_advantages(x, 3, {.kind = "gspo"}); },
         "kind: expected \"grpo\", \"dr_grpo\", \"rloo\", \"grpo_loo\", \"reinforce_pp\" or "
         "\"reinforce_pp_baseline\", got \"gspo\"");
  expect([&] { group_advantages(x, 3, {.eps = -1}); }, "eps: expected a number >= 0, got -1");
  expect([&] { group_advantages(x, 3, {.singletons = "one"}); },
         "singletons: expected \"zero\" or \"raw\", got \"one\"");
  const Tensor cu = at::tensor({0, 4, 6}, at::kLong);
  expect([&] { group_advantages(x, 3, {}, cu); }, "group_size: expected 0 beside cu_groups, got 3");
  expect([&] { group_advantages(x, 0, {}, cu * 2); },
         "cu_groups: expected to end at the number of scores 6, got 12");
  expect(
      [&] {
        group_advantages(x, 0, {}, at::tensor({0, 7, 6}, at::kLong));
      },
      "cu_groups: expected values that never fall, got 7 then 6 at 2");
  expect([&] { group_advantages(x, 3, {}, std::nullopt, cu); },
         "token_counts: expected [M] as scores = [6], got Long [3] on cpu");
  expect([&] { group_advantages(x, 3, {}, std::nullopt, at::full({6}, -1, at::kLong)); },
         "token_counts[0]: expected a number >= 0, got -1");
}

}  // namespace
}  // namespace hone::kernels
