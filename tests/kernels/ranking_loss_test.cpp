// ranking_loss against the probability of a ranking written out stage by stage.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "kernels/ops.h"
#include "tests/kernels/expect_message.h"
#include "tests/kernels/finite_difference.h"

namespace hone::kernels {
namespace {

using test::expect_close;
using test::expect_gradient;
using test::expect_message;

struct Case {
  std::vector<double> scores, weights;
  std::vector<int64_t> cu = {0}, ranks;
  bool has_ranks = false;
  RankingLossOptions options;

  Tensor run(const Tensor& x) const {
    const auto like = x.scalar_type();
    return ranking_loss(x, at::tensor(cu, at::kLong),
                        has_ranks ? OptionalTensor(at::tensor(ranks, at::kLong)) : std::nullopt,
                        at::tensor(weights, at::kDouble).to(like), options);
  }
};

Case random_case(std::mt19937& rng) {
  std::normal_distribution<double> normal;
  Case c;
  c.has_ranks = rng() % 3;
  const int model = static_cast<int>(rng() % 4);
  c.options.model = std::vector<std::string>{"plackett_luce", "bradley_terry", "davidson",
                                             "rao_kupper"}[static_cast<size_t>(model)];
  c.options.tie = model == 3 ? 1.5 : 0.8;
  c.options.lapse = model && rng() % 2 ? 0.05 : 0;
  for (size_t g = rng() % 4; g-- > 0;) {
    c.cu.push_back(c.cu.back() + static_cast<int64_t>(rng() % 7));
    c.weights.push_back(rng() % 5 ? normal(rng) : 0);
  }
  for (int64_t i = 0; i < c.cu.back(); ++i) {
    c.scores.push_back(2 * normal(rng));
    c.ranks.push_back(static_cast<int64_t>(rng() % 5) - 1);  // ties, and -1: not ranked
  }
  return c;
}

double pair_nll(double z, double share, const RankingLossOptions& o) {
  double first = 1 / (1 + std::exp(-z)), second = 1 - first, tie = 0;
  if (o.model == "davidson") {
    const double root = o.tie * std::exp(z / 2), total = std::exp(z) + 1 + root;
    first = std::exp(z) / total, second = 1 / total, tie = root / total;
  }
  if (o.model == "rao_kupper") {
    first = 1 / (1 + o.tie * std::exp(-z)), second = 1 / (1 + o.tie * std::exp(z));
    tie = 1 - first - second;
  }
  const double keep = 1 - 2 * o.lapse;
  if (share == 0.5 && o.model != "bradley_terry") return -std::log(keep * tie);
  return -share * std::log(keep * first + o.lapse) -
         (1 - share) * std::log(keep * second + o.lapse);
}

double group_loss(const Case& c, int64_t begin, int64_t end) {
  std::vector<int64_t> items(static_cast<size_t>(end - begin));
  std::iota(items.begin(), items.end(), begin);
  const auto place = [&](int64_t i) {
    if (!c.has_ranks) return i;
    const int64_t r = c.ranks[static_cast<size_t>(i)];
    return r < 0 ? int64_t{1000} : r;
  };
  const auto ranked = [&](int64_t i) { return place(i) != 1000; };
  const auto score = [&](int64_t i) { return c.scores[static_cast<size_t>(i)]; };
  if (c.options.model == "plackett_luce") {
    // Stage by stage: the items of the best place left are drawn from all that are left.
    std::stable_sort(items.begin(), items.end(),
                     [&](int64_t a, int64_t b) { return place(a) < place(b); });
    double loss = 0;
    for (size_t first = 0; first < items.size() && ranked(items[first]);) {
      double left = 0;
      for (size_t j = first; j < items.size(); ++j) left += std::exp(score(items[j]));
      size_t next = first;
      for (; next < items.size() && place(items[next]) == place(items[first]); ++next) {
        loss -= std::log(std::exp(score(items[next])) / left);
      }
      first = next;
    }
    return loss;
  }
  double loss = 0;
  int pairs = 0;
  for (const int64_t i : items) {
    for (const int64_t j : items) {
      if (j <= i || (!ranked(i) && !ranked(j))) continue;
      ++pairs;
      const double share = place(i) < place(j) ? 1 : place(i) > place(j) ? 0 : 0.5;
      loss += pair_nll(score(i) - score(j), share, c.options);
    }
  }
  return pairs ? loss / pairs : 0;
}

TEST(RankingLoss, MatchesTheModelsOnTenThousandRandomBatches) {
  std::mt19937 rng(1);
  for (int i = 0; i < 10000; ++i) {
    const Case c = random_case(rng);
    double want = 0;
    for (size_t g = 0; g < c.weights.size(); ++g) {
      if (c.weights[g] != 0) want += c.weights[g] * group_loss(c, c.cu[g], c.cu[g + 1]);
    }
    const Tensor x = at::tensor(c.scores, at::kDouble);
    ASSERT_NEAR(c.run(x).item<double>(), want, 1e-9 * (1 + std::fabs(want)))
        << c.options.model << " case " << i;
    if (i % 8 == 0) {
      ASSERT_NEAR(c.run(x.to(at::kFloat)).item<double>(), want, 1e-5 * (4 + std::fabs(want)));
    }
    if (i % 50 == 0) expect_gradient([&](const Tensor& y) { return c.run(y); }, x, c.options.model);
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(RankingLoss, PlackettLuceProbabilitiesOfAllRankingsAddUpToOne) {
  const Tensor scores = at::tensor({0.3, -1.2, 0.9, 2.0}, at::kDouble);
  const Tensor cu = at::tensor({0, 4}, at::kLong), one = at::ones({1}, at::kDouble);
  std::vector<int64_t> order = {0, 1, 2, 3};
  double total = 0;
  do {
    total += std::exp(-ranking_loss(scores, cu, at::tensor(order, at::kLong), one).item<double>());
  } while (std::next_permutation(order.begin(), order.end()));
  EXPECT_NEAR(total, 1, 1e-12);
  // Two places of four: twelve partial rankings.
  total = 0;
  for (int64_t first = 0; first < 4; ++first) {
    for (int64_t second = 0; second < 4; ++second) {
      if (first == second) continue;
      Tensor ranks = at::full({4}, -1, at::kLong);
      ranks[first] = 0;
      ranks[second] = 1;
      total += std::exp(-ranking_loss(scores, cu, ranks, one).item<double>());
    }
  }
  EXPECT_NEAR(total, 1, 1e-12);
}

TEST(RankingLoss, StaysFiniteFarOutAndIgnoresAConstantShift) {
  const Tensor cu = at::tensor({0, 3, 5}, at::kLong), weights = at::ones({2}, at::kDouble);
  for (const char* model : {"plackett_luce", "bradley_terry"}) {
    RankingLossOptions o;
    o.model = model;
    Tensor x = at::tensor({-700.0, 0.0, 700.0, 3.0, -3.0}, at::kDouble).requires_grad_(true);
    const Tensor loss = ranking_loss(x, cu, std::nullopt, weights, o);
    loss.backward();
    EXPECT_TRUE(loss.isfinite().item<bool>());
    EXPECT_TRUE(x.grad().isfinite().all().item<bool>());
    EXPECT_NEAR(ranking_loss(x.detach() + 50, cu, std::nullopt, weights, o).item<double>(),
                loss.item<double>(), 1e-9);
  }
}

TEST(RankingLoss, ErrorsNameArgumentExpectedAndGot) {
  const Tensor x = at::zeros({3}), cu = at::tensor({0, 3}, at::kLong), w = at::ones({1});
  expect_message([&] { ranking_loss(x, cu, std::nullopt, at::ones({2})); },
                 "ranking_loss: weights: expected [G] of cu_seqlens [G+1] = [1], got Float [2]");
  expect_message([&] { ranking_loss(x, cu, x, w); },
                 "ranking_loss: ranks: expected Long, got Float [3] on cpu");
  expect_message([&] { ranking_loss(x, cu, at::zeros({2}, at::kLong), w); },
                 "ranking_loss: ranks: expected [S] = [3], got Long [2] on cpu");
  expect_message(
      [&] {
        ranking_loss(x, at::tensor({0, 2}, at::kLong), std::nullopt, w);
      },
      "ranking_loss: cu_seqlens: expected to end at the number of tokens 3, got 2");
  expect_message(
      [&] {
        ranking_loss(x, cu, std::nullopt, w, {"elo", 0, 0});
      },
      "ranking_loss: model: expected \"plackett_luce\", \"bradley_terry\", \"davidson\" "
      "or \"rao_kupper\", got \"elo\"");
  expect_message(
      [&] {
        ranking_loss(x, cu, std::nullopt, w, {"plackett_luce", 0, 0.1});
      },
      "ranking_loss: lapse: expected 0 with model \"plackett_luce\", got 0.1");
  expect_message(
      [&] {
        ranking_loss(x, cu, std::nullopt, w, {"davidson", -1, 0});
      },
      "ranking_loss: tie (nu of davidson): ");
}

}  // namespace
}  // namespace hone::kernels
