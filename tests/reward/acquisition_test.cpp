#include "reward/acquisition.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <random>
#include <set>

#include "data/error.h"

namespace hone::reward {
namespace {

double entropy(double p) {
  return p <= 0 || p >= 1 ? 0.0 : -p * std::log(p) - (1 - p) * std::log1p(-p);
}

/// E f(p(z)), z ~ N(mean, variance), by a fine trapezoid over ten standard deviations.
template <class F>
double dense(const PairBelief& belief, const PairLikelihood& likelihood, F&& f) {
  constexpr int kSteps = 20000;
  const double deviation = std::sqrt(belief.variance);
  double sum = 0, mass = 0;
  for (int i = 0; i <= kSteps; ++i) {
    const double x = -10.0 + 20.0 * i / kSteps, density = std::exp(-0.5 * x * x);
    sum += density * f(likelihood.probability(belief.mean + deviation * x));
    mass += density;
  }
  return sum / mass;
}

TEST(AcquisitionTest, ScoresAgreeWithDenseQuadrature) {
  for (const double lapse : {0.0, 0.08}) {
    const PairLikelihood likelihood({kernels::math::PreferenceModel::kBradleyTerry, 0.0, lapse});
    for (const double mean : {-4.0, -0.5, 0.0, 2.0}) {
      for (const double deviation : {0.01, 0.5, 1.5, 3.0}) {
        PairBelief belief;
        belief.mean = mean;
        belief.variance = deviation * deviation;
        const double p = dense(belief, likelihood, [](double q) { return q; });
        const double square = dense(belief, likelihood, [](double q) { return q * q; });
        const double bald = entropy(p) - dense(belief, likelihood, entropy);
        EXPECT_NEAR(acquisition_score(AcquisitionRule::kBald, belief, likelihood), bald, 1e-6)
            << mean << " +- " << deviation;
        EXPECT_NEAR(acquisition_score(AcquisitionRule::kVariance, belief, likelihood),
                    square - p * p, 1e-6);
        EXPECT_GE(bald, -1e-12);
      }
    }
  }
  double mass = 0, fourth = 0;
  const auto& rule = normal_quadrature();
  for (size_t n = 0; n < rule.nodes.size(); ++n) {
    mass += rule.weights[n];
    fourth += rule.weights[n] * std::pow(rule.nodes[n], 4);
  }
  EXPECT_NEAR(mass, 1.0, 1e-13);
  EXPECT_NEAR(fourth, 3.0, 1e-12);
}

struct Pool {
  at::Tensor features;
  std::vector<FeaturePair> pairs;
  Posterior posterior;
};

Pool random_pool(int64_t texts, int64_t size, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  at::Tensor features = at::zeros({texts, size}, at::kDouble);
  for (int64_t i = 0; i < texts * size; ++i) features.data_ptr<double>()[i] = normal(random);
  std::vector<FeaturePair> pairs;
  for (int64_t a = 0; a + 1 < texts; a += 4) {  // four answers a prompt
    for (int64_t i = 0; i < 4; ++i) {
      for (int64_t j = i + 1; j < 4; ++j) pairs.push_back({a + i, a + j});
    }
  }
  at::Tensor mean = at::zeros({size}, at::kDouble);
  for (int64_t i = 0; i < size; ++i) mean.data_ptr<double>()[i] = 0.3 * normal(random);
  return {features, pairs, Posterior(mean, at::eye(size, at::kDouble))};
}

/// The greedy maximum of log det(H + sum I x x^T), every determinant made anew.
std::vector<size_t> greedy_by_determinants(const Pool& pool, size_t count) {
  at::Tensor precision = pool.posterior.precision();
  std::vector<size_t> picked;
  const auto beliefs = pool.posterior.beliefs(pool.features, pool.pairs);
  while (picked.size() < count) {
    double best = -1e300;
    size_t at = 0;
    for (size_t p = 0; p < pool.pairs.size(); ++p) {
      if (std::count(picked.begin(), picked.end(), p)) continue;
      const at::Tensor x = feature_difference(pool.features, pool.pairs[p]);
      const double value =
          at::logdet(precision + beliefs[p].information * at::outer(x, x)).item<double>();
      if (value > best + 1e-12) best = value, at = p;
    }
    const at::Tensor x = feature_difference(pool.features, pool.pairs[at]);
    precision = precision + beliefs[at].information * at::outer(x, x);
    picked.push_back(at);
  }
  return picked;
}

TEST(SelectionTest, DOptimalIsTheGreedyMaximumOfTheDeterminant) {
  const auto pool = random_pool(40, 6, 5);
  const auto selected =
      select_pairs(pool.posterior, pool.features, pool.pairs, {.count = 20, .random_share = 0.0});
  std::vector<size_t> picked;
  for (const auto& one : selected) picked.push_back(one.pair);
  EXPECT_EQ(picked, greedy_by_determinants(pool, 20));
}

// The queue of old scores must not change what a plain search in every round finds.
TEST(SelectionTest, EveryGreedyRuleTakesTheBestOfEachRound) {
  const auto pool = random_pool(32, 5, 6);
  for (const auto rule :
       {AcquisitionRule::kVariance, AcquisitionRule::kBald, AcquisitionRule::kEntropy}) {
    const auto selected = select_pairs(pool.posterior, pool.features, pool.pairs,
                                       {.rule = rule, .count = 15, .random_share = 0.0});
    Posterior posterior = pool.posterior;
    std::set<size_t> taken;
    for (const auto& one : selected) {
      const auto beliefs = posterior.beliefs(pool.features, pool.pairs);
      double best = -1;
      for (size_t p = 0; p < pool.pairs.size(); ++p) {
        if (!taken.contains(p)) {
          best = std::max(best, acquisition_score(rule, beliefs[p], posterior.likelihood()));
        }
      }
      EXPECT_NEAR(one.score, best, 1e-9) << rule_name(rule);
      taken.insert(one.pair);
      if (rule != AcquisitionRule::kEntropy) {
        posterior.add(feature_difference(pool.features, pool.pairs[one.pair]),
                      beliefs[one.pair].information);
      }
    }
  }
}

TEST(SelectionTest, PropensitiesAddUpToTheBatchAndAreTheFrequencies) {
  const auto pool = random_pool(24, 4, 7);  // 36 pairs
  const size_t total = pool.pairs.size();
  SelectionOptions options{.count = 10, .random_share = 0.3};
  std::map<size_t, int> times;
  std::map<size_t, double> propensity;
  constexpr int kDraws = 4000;
  for (int draw = 0; draw < kDraws; ++draw) {
    options.seed = static_cast<uint64_t>(draw);
    const auto selected = select_pairs(pool.posterior, pool.features, pool.pairs, options);
    ASSERT_EQ(selected.size(), 10u);
    std::set<size_t> distinct;
    double stands_for = 0;
    for (const auto& one : selected) {
      distinct.insert(one.pair);
      ++times[one.pair];
      stands_for += 1.0 / one.propensity;
      const double other = propensity.emplace(one.pair, one.propensity).first->second;
      EXPECT_EQ(one.propensity, other);
    }
    EXPECT_EQ(distinct.size(), 10u);
    EXPECT_NEAR(stands_for, static_cast<double>(total), 1e-9);  // Horvitz and Thompson's count
  }
  ASSERT_EQ(times.size(), total) << "every candidate can be asked";
  double sum = 0;
  for (const auto& [pair, probability] : propensity) {
    EXPECT_GT(probability, 0);
    sum += probability;
    const double error = std::sqrt(probability * (1 - probability) / kDraws);
    EXPECT_NEAR(static_cast<double>(times[pair]) / kDraws, probability, 5 * error + 1e-12);
  }
  EXPECT_NEAR(sum, 10.0, 1e-9);
}

TEST(SelectionTest, LimitsAndOrder) {
  const auto pool = random_pool(24, 4, 8);
  const auto select = [&](SelectionOptions options) {
    return select_pairs(pool.posterior, pool.features, pool.pairs, options);
  };
  for (const auto& one : select({.count = 1000})) EXPECT_EQ(one.propensity, 1.0);
  EXPECT_EQ(select({.count = 1000}).size(), pool.pairs.size());
  for (const auto& one : select({.rule = AcquisitionRule::kRandom, .count = 9})) {
    EXPECT_EQ(one.propensity, 9.0 / 36.0);
    EXPECT_FALSE(one.by_rule);
  }
  const auto ten = select({.count = 10, .random_share = 0.2});
  EXPECT_FALSE(ten[4].by_rule) << "the second half has the second of two";
  EXPECT_FALSE(ten[9].by_rule);
  EXPECT_EQ(std::count_if(ten.begin(), ten.end(), [](const auto& one) { return one.by_rule; }), 8);
  EXPECT_TRUE(select_pairs(pool.posterior, pool.features, {}, {}).empty());
  EXPECT_THROW(select({.count = 0}), data::InputError);
  EXPECT_THROW(select({.random_share = 1.5}), data::InputError);
  EXPECT_THROW(parse_acquisition_rule("entropie", "--select"), data::InputError);
  EXPECT_EQ(parse_acquisition_rule("bald", ""), AcquisitionRule::kBald);
}

TEST(SelectionTest, TheSameSeedSelectsTheSamePairs) {
  const auto pool = random_pool(40, 6, 9);
  const auto pairs_of = [&](uint64_t seed) {
    std::vector<std::pair<size_t, double>> out;
    for (const auto& one : select_pairs(pool.posterior, pool.features, pool.pairs,
                                        {.count = 12, .random_share = 0.5, .seed = seed})) {
      out.push_back({one.pair, one.score});
    }
    return out;
  };
  EXPECT_EQ(pairs_of(3), pairs_of(3));
  EXPECT_NE(pairs_of(3), pairs_of(4));
}

// A pool of one question in many near copies, and a few others: batches ask different things.
TEST(SelectionTest, ABatchDoesNotAskTheSameThingTwice) {
  std::mt19937 random(10);
  std::normal_distribution<double> normal;
  constexpr int64_t kCopies = 50, kOthers = 5, kSize = 8;
  at::Tensor features = at::zeros({kCopies + kOthers, kSize}, at::kDouble);
  std::vector<FeaturePair> pairs;
  for (int64_t i = 0; i < kCopies + kOthers; ++i) {
    for (int64_t k = 0; k < kSize; ++k) {
      features[i][k] = i < kCopies ? (k == 0 ? 6.0 : 0.0) + 0.01 * normal(random)
                                   : (k == i - kCopies + 1 ? 3.0 : 0.0);
    }
    pairs.push_back({i, -1});
  }
  const auto posterior = Posterior::prior(kSize, 1.0);
  for (const auto rule :
       {AcquisitionRule::kDOptimal, AcquisitionRule::kBald, AcquisitionRule::kVariance}) {
    const auto selected =
        select_pairs(posterior, features, pairs, {.rule = rule, .count = 6, .random_share = 0.0});
    int64_t copies = 0;
    for (const auto& one : selected) copies += one.pair < static_cast<size_t>(kCopies);
    EXPECT_EQ(copies, 1) << rule_name(rule);
  }
}

}  // namespace
}  // namespace hone::reward
