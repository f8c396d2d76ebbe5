// Sampling: greedy ties, the exact distribution behind every filter (chi-square), log-probabilities
// and entropy against the plain formulas, and independence of batch and threads.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/math/philox.h"
#include "kernels/ops.h"
#include "tests/kernels/expect_message.h"
#include "tests/kernels/same_bits.h"
#include "tests/support/expect_close.h"

namespace hone::kernels {
namespace {

using test::expect_close;
using test::expect_message;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

SampleOptions rule(double temperature, int64_t top_k = 0, double top_p = 1.0, double min_p = 0.0) {
  return {temperature, top_k, top_p, min_p};
}

Tensor keys_of(int64_t rows) {
  const Tensor i = at::arange(rows, at::kLong);
  return at::stack({i, i % 3, i % 7}, 1);
}

std::vector<double> softmax(std::vector<double> x, double temperature) {
  const double top = *std::max_element(x.begin(), x.end());
  double sum = 0;
  for (double& v : x) sum += v = std::exp((v - top) / temperature);
  for (double& v : x) v /= sum;
  return x;
}

/// The distribution that the options describe: a list sorted by probability, cut by each filter in
/// turn and renormalised in between, as the definitions of top-k, top-p and min-p say.
std::vector<double> exact(const std::vector<double>& logits, const SampleOptions& o) {
  std::vector<double> p = softmax(logits, o.temperature);
  std::vector<size_t> order(p.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return p[a] > p[b]; });
  const auto renormalise = [&] {
    const double sum = std::accumulate(p.begin(), p.end(), 0.0);
    for (double& v : p) v /= sum;
  };
  if (o.top_k > 0) {
    const double least = p[order[std::min<size_t>(o.top_k, p.size()) - 1]];
    for (double& v : p) v = v < least ? 0 : v;
    renormalise();
  }
  if (o.top_p < 1) {
    double before = 0;
    for (size_t rank = 0; rank < order.size(); ++rank) {
      const double here = p[order[rank]];
      if (rank > 0 && before >= o.top_p) p[order[rank]] = 0;
      before += here;
    }
    renormalise();
  }
  const double top = *std::max_element(p.begin(), p.end());
  for (double& v : p) v = v < o.min_p * top ? 0 : v;
  renormalise();
  return p;
}

TEST(Sample, FollowsTheExactDistribution) {
  at::manual_seed(1);
  constexpr int64_t kVocabulary = 23, kRows = 40000;
  const Tensor row = at::randn({kVocabulary}, at::kDouble) * 1.5;
  const std::vector<double> logits(row.data_ptr<double>(), row.data_ptr<double>() + kVocabulary);
  for (const SampleOptions& o :
       {rule(1.0), rule(0.7), rule(2.0), rule(1.0, 5), rule(0.8, 0, 0.8), rule(1.0, 0, 1.0, 0.15),
        rule(1.3, 12, 0.9, 0.05), rule(1.0, 1), rule(1.0, 0, 1e-9)}) {
    const std::vector<double> p = exact(logits, o);
    const Sampled got = sample(row.expand({kRows, kVocabulary}), keys_of(kRows), 77, o);
    std::vector<double> count(kVocabulary);
    for (int64_t r = 0; r < kRows; ++r) ++count[got.tokens[r].item<int64_t>()];
    double chi_square = 0;
    int64_t freedom = -1;
    for (int64_t j = 0; j < kVocabulary; ++j) {
      if (p[j] == 0) {
        EXPECT_EQ(count[j], 0) << "a filtered token was drawn";
        continue;
      }
      const double expected = kRows * p[j];
      if (expected < 5) continue;  // too few for the approximation; only more conservative
      chi_square += (count[j] - expected) * (count[j] - expected) / expected;
      ++freedom;
    }
    // Mean f, deviation sqrt(2f): five deviations above is one in millions. The seed is fixed.
    EXPECT_LE(chi_square, freedom + 5 * std::sqrt(2.0 * std::max<int64_t>(freedom, 1)))
        << o.temperature << " " << o.top_k << " " << o.top_p << " " << o.min_p;
  }
}

/// Every draw is the lowest id whose exact cumulative probability exceeds the key's uniform.
TEST(Sample, IsTheInverseCdfOnTenThousandRandomRows) {
  at::manual_seed(9);
  std::mt19937 rng(9);
  std::uniform_real_distribution<double> uniform;
  const auto chance = [&](int one_in) { return rng() % static_cast<uint64_t>(one_in) == 0; };
  for (int64_t round = 0; round < 10000; ++round) {
    const auto vocabulary = static_cast<int64_t>(1 + rng() % (chance(10) ? 600 : 40));
    const SampleOptions o{
        0.2 + 2 * uniform(rng), chance(2) ? 0 : static_cast<int64_t>(1 + rng() % 50),
        chance(2) ? 1.0 : 0.05 + 0.9 * uniform(rng), chance(2) ? 0.0 : 0.3 * uniform(rng)};
    const Tensor logits = at::randn({1, vocabulary}, at::kDouble) * (0.1 + 3 * uniform(rng));
    const std::vector<double> x(logits.data_ptr<double>(), logits.data_ptr<double>() + vocabulary);
    const std::vector<double> p = exact(x, o);
    const Sampled got =
        sample(logits, at::tensor({round, round % 7, round % 11}, at::kLong).view({1, 3}), 3, o);
    const double target = math::sample_uniform(3, round, round % 7, round % 11);
    int64_t token = 0;
    for (double below = p[0]; below <= target && token + 1 < vocabulary;) below += p[++token];
    ASSERT_EQ(got.tokens[0].item<int64_t>(), token) << round;
    ASSERT_NEAR(got.logprobs[0].item<double>(), std::log(p[token]), 1e-10) << round;
    ASSERT_NEAR(got.raw_logprobs[0].item<double>(), std::log(softmax(x, 1)[token]), 1e-10) << round;
  }
}

TEST(Sample, ReportsLogprobsAndEntropyOfTheRightDistributions) {
  at::manual_seed(2);
  for (const auto type : {at::kDouble, at::kFloat}) {
    const double tolerance = type == at::kDouble ? 1e-12 : 3e-6;
    for (const int64_t vocabulary : {1, 2, 15, 16, 17, 255, 257, 2048}) {
      for (const SampleOptions& o : {rule(1.0), rule(0.6), rule(0.9, 7, 0.7, 0.1)}) {
        const Tensor logits = (at::randn({6, vocabulary}, at::kDouble) * 2).to(type);
        const Sampled got = sample(logits, keys_of(6), 5, o);
        for (int64_t r = 0; r < 6; ++r) {
          const Tensor row = logits[r].to(at::kDouble).contiguous();
          const std::vector<double> x(row.data_ptr<double>(), row.data_ptr<double>() + vocabulary);
          const int64_t token = got.tokens[r].item<int64_t>();
          EXPECT_NEAR(got.logprobs[r].item<double>(), std::log(exact(x, o)[token]), tolerance * 2);
          EXPECT_NEAR(got.raw_logprobs[r].item<double>(), std::log(softmax(x, 1)[token]),
                      tolerance * 5);
          double entropy = 0;
          for (double p : softmax(x, o.temperature)) entropy -= p > 0 ? p * std::log(p) : 0;
          EXPECT_NEAR(got.entropy[r].item<double>(), entropy, tolerance * 3);
        }
      }
    }
  }
}

TEST(Sample, FiltersKeepTiesAsDocumented) {
  // Probabilities 0.3, 0.2, 0.2, 0.2, 0.1: top-k 2 keeps all that tie with the second; top-p 0.6
  // needs two of the three that tie and takes the lower ids.
  const Tensor row = at::log(at::tensor({0.2, 0.3, 0.2, 0.1, 0.2}, at::kDouble));
  const Tensor rows = row.expand({2000, 5}).contiguous();
  const auto seen = [&](const SampleOptions& o) {
    const Tensor tokens = sample(rows, keys_of(2000), 3, o).tokens;
    std::vector<bool> out(5);
    for (int64_t r = 0; r < 2000; ++r) out[tokens[r].item<int64_t>()] = true;
    return out;
  };
  EXPECT_EQ(seen(rule(1.0, 2)), (std::vector<bool>{true, true, true, false, true}));
  EXPECT_EQ(seen(rule(1.0, 0, 0.6)), (std::vector<bool>{true, true, true, false, false}));
  EXPECT_EQ(seen(rule(1.0, 0, 1.0, 0.5)), (std::vector<bool>{true, true, true, false, true}));
}

TEST(Sample, GreedyTakesTheLowestOfTies) {
  const Tensor logits = at::tensor({0.0, 3.0, 1.0, 3.0, -1.0, 3.0}, at::kFloat).view({1, 6});
  const Sampled got = sample(logits, keys_of(1), 9, rule(0));
  EXPECT_EQ(got.tokens.item<int64_t>(), 1);
  EXPECT_EQ(got.logprobs.item<double>(), 0.0);
  EXPECT_NEAR(got.raw_logprobs.item<double>(), at::log_softmax(logits, -1)[0][1].item<double>(),
              1e-6);
  Tensor wide = at::zeros({1, 1000}, at::kFloat);
  EXPECT_EQ(sample(wide, keys_of(1), 9, rule(0)).tokens.item<int64_t>(), 0);
  wide[0][700] = wide[0][999] = 1;
  EXPECT_EQ(sample(wide, keys_of(1), 9, rule(0)).tokens.item<int64_t>(), 700);
}

TEST(Sample, ImpossibleTokensAreNeverDrawn) {
  Tensor logits = at::full({500, 40}, -kInfinity, at::kFloat);
  logits.select(1, 11).fill_(0.5);
  logits.select(1, 39).fill_(0.5);
  for (const SampleOptions& o : {rule(1.0), rule(0.5, 10), rule(1.0, 0, 0.99)}) {
    const Sampled got = sample(logits, keys_of(500), 1, o);
    EXPECT_TRUE(((got.tokens == 11).logical_or(got.tokens == 39)).all().item<bool>());
    expect_close(got.logprobs, at::full({500}, std::log(0.5)), 1e-6);
    expect_close(got.entropy, at::full({500}, std::log(2.0)), 1e-6);
  }
}

TEST(Sample, ADrawDependsOnSeedKeyAndLogitsOnly) {
  at::manual_seed(3);
  const Tensor logits = at::randn({64, 300}, at::kFloat), keys = keys_of(64);
  const auto draw = [&](const Tensor& l, const Tensor& k, int64_t seed) {
    return sample(l, k, seed, rule(0.9, 100, 0.95)).tokens;
  };
  const Tensor all = draw(logits, keys, 4);
  const Tensor order = at::randperm(64, at::kLong);
  EXPECT_TRUE(at::equal(draw(logits.index_select(0, order), keys.index_select(0, order), 4),
                        all.index_select(0, order)));
  for (int64_t r = 0; r < 64; ++r) {
    EXPECT_TRUE(
        at::equal(draw(logits.narrow(0, r, 1), keys.narrow(0, r, 1), 4), all.narrow(0, r, 1)));
  }
  EXPECT_FALSE(at::equal(draw(logits, keys, 5), all));
  EXPECT_FALSE(at::equal(draw(logits, keys + 1, 4), all));
  test::expect_same_bits_on_any_threads(
      [&] {
        const Sampled s = sample(logits, keys, 4, rule(0.9, 0, 0.8));
        return std::vector<Tensor>{s.tokens, s.logprobs, s.raw_logprobs, s.entropy};
      },
      "sample");
}

TEST(Sample, EveryPartOfTheKeyCounts) {
  const Tensor logits = at::zeros({1, 1 << 16}, at::kFloat);
  const auto token = [&](int64_t prompt, int64_t index, int64_t position, int64_t seed) {
    const Tensor key = at::tensor({prompt, index, position}, at::kLong).view({1, 3});
    return sample(logits, key, seed, rule(1.0)).tokens.item<int64_t>();
  };
  std::vector<int64_t> tokens{token(0, 0, 0, 0),
                              token(1, 0, 0, 0),
                              token(0, 1, 0, 0),
                              token(0, 0, 1, 0),
                              token(0, 0, 0, 1),
                              token(int64_t{1} << 32, 0, 0, 0),
                              token(0, 0, 0, int64_t{1} << 32),
                              token(0, 0, 0, -1)};
  std::sort(tokens.begin(), tokens.end());
  EXPECT_EQ(std::adjacent_find(tokens.begin(), tokens.end()), tokens.end());
}

TEST(Sample, ErrorsNameArgumentExpectedAndGot) {
  const Tensor logits = at::zeros({2, 4}, at::kFloat), keys = keys_of(2);
  const auto call = [&](const SampleOptions& o) { return [=] { sample(logits, keys, 0, o); }; };
  expect_message(call(rule(-1)), "sample: temperature: expected a finite number >= 0, got -1");
  expect_message(call(rule(1, -1)), "sample: top_k: expected at least 1, or 0 for off, got -1");
  expect_message(call(rule(1, 0, 0)), "sample: top_p: expected a number in (0, 1], got 0");
  expect_message(call(rule(1, 0, 1, 2)), "sample: min_p: expected a number in [0, 1], got 2");
  expect_message([&] { sample(logits, keys.narrow(0, 0, 1), 0, rule(1)); },
                 "sample: keys: expected [R,3] = [2, 3], got Long [1, 3]");
  expect_message([&] { sample(logits, keys - 1, 0, rule(1)); }, "sample: keys: expected prompt");
  for (const double bad : {kInfinity, std::nan("")}) {
    Tensor broken = logits.clone();
    broken[1][2] = bad;
    expect_message(
        [&] { sample(broken, keys, 0, rule(1)); },
        "sample: logits: expected numbers or -inf, at least one finite, got NaN, +inf or "
        "nothing finite in row 1");
  }
  expect_message(
      [&] {
        sample(at::full({1, 3}, -kInfinity), keys_of(1), 0, rule(0));
      },
      "sample: logits");
  EXPECT_EQ(sample(at::zeros({0, 4}), keys_of(0), 0, rule(1)).tokens.size(0), 0);
}

}  // namespace
}  // namespace hone::kernels
