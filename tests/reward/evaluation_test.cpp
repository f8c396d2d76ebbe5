#include "reward/evaluation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "data/error.h"

namespace hone::reward {
namespace {

struct Synthetic {
  std::vector<float> scores;
  std::vector<Vote> votes;
};

/// Votes drawn from sigma((s_a - s_b) / temperature).
Synthetic synthetic(double temperature, int count, unsigned seed, double spread = 1.0) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, static_cast<float>(spread));
  std::uniform_real_distribution<double> uniform(0.0, 1.0);
  Synthetic out;
  for (int i = 0; i < 2000; ++i) out.scores.push_back(normal(random));
  for (int v = 0; v < count; ++v) {
    const auto a = random() % out.scores.size(), b = random() % out.scores.size();
    const double p = 1.0 / (1.0 + std::exp(-(out.scores[a] - out.scores[b]) / temperature));
    out.votes.push_back({static_cast<int64_t>(a), static_cast<int64_t>(b),
                         uniform(random) < p ? 1.0f : 0.0f, false});
  }
  return out;
}

TEST(PairAccuracy, LeavesTiesOutAndCountsEqualScoresHalf) {
  const std::vector<float> scores = {1.0f, 0.0f, 1.0f};
  EXPECT_EQ(pair_accuracy(scores, {{0, 1, 1.0f}, {0, 1, 0.0f}, {1, 0, 0.5f}, {1, 2, 0.0f}}),
            2.0 / 3.0);
  EXPECT_EQ(pair_accuracy(scores, {{0, 2, 1.0f}, {2, 0, 1.0f}}), 0.5);
  EXPECT_EQ(pair_accuracy(scores, {}), 0.0);
  EXPECT_THROW(pair_accuracy(scores, {{0, 3, 1.0f}}), data::InputError);
}

class Temperature : public ::testing::TestWithParam<double> {};

TEST_P(Temperature, OfSyntheticVotesIsRecoveredWithinTwoPercent) {
  const double truth = GetParam();
  const auto data = synthetic(truth, 200000, 1, 2.0 * truth);
  EXPECT_NEAR(fit_temperature(data.scores, data.votes) / truth, 1.0, 0.02);
}

INSTANTIATE_TEST_SUITE_P(Scales, Temperature, ::testing::Values(1e-4, 0.5, 1.0, 2.1, 1e4));

TEST(FitTemperature, IsTheMinimumOfTheLogLoss) {
  const auto data = synthetic(1.3, 2000, 2);
  const double best = fit_temperature(data.scores, data.votes);
  const double loss = calibration(data.scores, data.votes, best).log_loss;
  for (const double factor : {0.5, 0.9, 0.99, 1.01, 1.1, 2.0}) {
    EXPECT_LT(loss, calibration(data.scores, data.votes, best * factor).log_loss) << factor;
  }
}

TEST(FitTemperature, StaysFiniteAtExtremes) {
  const std::vector<float> scores = {2.0f, 1.0f, 1.0f};
  const double right = fit_temperature(scores, {{0, 1, 1.0f}});  // separable: as cold as allowed
  EXPECT_GT(right, 0.0);
  EXPECT_LT(right, 0.01);
  const double wrong = fit_temperature(scores, {{0, 1, 0.0f}});  // worse than chance: hot
  EXPECT_GT(wrong, 100.0);
  EXPECT_TRUE(std::isfinite(wrong));
  EXPECT_EQ(fit_temperature(scores, {{1, 2, 1.0f}}), 1.0);  // no difference says anything
  EXPECT_EQ(fit_temperature(scores, {}), 1.0);
  EXPECT_EQ(fit_temperature(scores, {{0, 1, 0.5f}}), 1.0);
  const std::vector<float> huge = {1e30f, -1e30f};
  EXPECT_TRUE(std::isfinite(fit_temperature(huge, {{0, 1, 1.0f}})));
}

TEST(Calibration, OfAPerfectlyCalibratedSetHasNoError) {
  const auto data = synthetic(1.0, 200000, 3);
  const auto got = calibration(data.scores, data.votes, 1.0);
  EXPECT_LT(got.ece, 0.005);
  EXPECT_GT(calibration(data.scores, data.votes, 0.5).ece, 0.05);  // overconfident
  EXPECT_GT(calibration(data.scores, data.votes, 2.0).ece, 0.05);  // underconfident
}

TEST(Calibration, BinsAndScoresAreThoseOfTheDefinition) {
  // Differences of logit(.62) and logit(.97); at .62 one of two is right, at .97 both.
  const auto logit = [](double p) { return static_cast<float>(std::log(p / (1.0 - p))); };
  const std::vector<float> scores = {0.0f, logit(0.62), logit(0.97)};
  const std::vector<Vote> votes = {
      {1, 0, 1.0f}, {0, 1, 1.0f}, {2, 0, 1.0f}, {0, 2, 0.0f}, {2, 1, 0.5f}};
  const auto got = calibration(scores, votes, 1.0);
  ASSERT_EQ(got.bins.size(), 10u);
  EXPECT_EQ(got.bins[2].count, 2);  // .60 to .65
  EXPECT_NEAR(got.bins[2].confidence, 0.62, 1e-6);
  EXPECT_EQ(got.bins[2].accuracy, 0.5);
  EXPECT_EQ(got.bins[9].count, 2);
  EXPECT_EQ(got.bins[9].accuracy, 1.0);
  EXPECT_NEAR(got.ece, 0.5 * 0.12 + 0.5 * 0.03, 1e-6);
  EXPECT_NEAR(got.brier, (0.38 * 0.38 + 0.62 * 0.62 + 2 * 0.03 * 0.03) / 4.0, 1e-6);
  EXPECT_NEAR(got.log_loss, -(std::log(0.62) + std::log(0.38) + 2 * std::log(0.97)) / 4.0, 1e-6);
}

TEST(Calibration, ExtremeScoresAndNoVotesAreFinite) {
  const auto got = calibration({1e30f, -1e30f}, {{0, 1, 1.0f}, {1, 0, 1.0f}}, 1e-3);
  EXPECT_FALSE(std::isnan(got.ece));
  EXPECT_EQ(got.bins[9].count, 2);
  EXPECT_EQ(calibration({}, {}, 1.0).ece, 0.0);
  EXPECT_THROW(calibration({}, {}, 0.0), data::InputError);
}

}  // namespace
}  // namespace hone::reward
