// Krippendorff's alpha against his published example and against double loops; intervals of shares
// and of alpha by how often they hold.

#include "data/service/agreement.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "data/service/proportion.h"

namespace hone::data::service {
namespace {

/// Four people, twelve things, missing values: Krippendorff 2011, section C.
std::vector<JudgedUnit> published_example() {
  return {{1, {1, 1, 1}},    {2, {2, 2, 3, 2}}, {3, {3, 3, 3, 3}}, {4, {3, 3, 3, 3}},
          {5, {2, 2, 2, 2}}, {6, {1, 2, 3, 4}}, {7, {4, 4, 4, 4}}, {8, {1, 1, 2, 1}},
          {9, {2, 2, 2, 2}}, {10, {5, 5, 5}},   {11, {1, 1}},      {12, {3}}};
}

/// By the definition, over every pair of values.
double by_double_loops(const std::vector<JudgedUnit>& units, Distance distance) {
  std::vector<double> all;
  for (const auto& unit : units) {
    if (unit.values.size() < 2) continue;
    all.insert(all.end(), unit.values.begin(), unit.values.end());
  }
  const auto squared = [&](double a, double b) {
    if (distance == Distance::kNominal) return a == b ? 0.0 : 1.0;
    if (distance == Distance::kInterval) return (a - b) * (a - b);
    double between = 0.0;
    for (const double value : all) {
      const double low = std::min(a, b), high = std::max(a, b);
      if (value > low && value < high) between += 1.0;
      if (value == low || value == high) between += 0.5;
    }
    return a == b ? 0.0 : between * between;
  };
  double within = 0.0, any = 0.0;
  for (const auto& unit : units) {
    const auto m = static_cast<double>(unit.values.size());
    for (std::size_t i = 0; i < unit.values.size(); ++i) {
      for (std::size_t j = 0; j < unit.values.size(); ++j) {
        if (i != j) within += squared(unit.values[i], unit.values[j]) / (m - 1.0);
      }
    }
  }
  for (std::size_t i = 0; i < all.size(); ++i) {
    for (std::size_t j = 0; j < all.size(); ++j) {
      if (i != j) any += squared(all[i], all[j]);
    }
  }
  const auto n = static_cast<double>(all.size());
  return 1.0 - (within / n) / (any / (n * (n - 1.0)));
}

TEST(Agreement, IsThatOfThePublishedExample) {
  EXPECT_NEAR(krippendorff_alpha(published_example(), Distance::kNominal)->alpha, 0.743, 5e-4);
  EXPECT_NEAR(krippendorff_alpha(published_example(), Distance::kOrdinal)->alpha, 0.815, 5e-4);
  EXPECT_NEAR(krippendorff_alpha(published_example(), Distance::kInterval)->alpha, 0.849, 5e-4);
  const auto agreement = *krippendorff_alpha(published_example(), Distance::kNominal);
  EXPECT_EQ(agreement.questions, 11);
  EXPECT_EQ(agreement.values, 40);
  EXPECT_LT(agreement.low, agreement.alpha);
  EXPECT_GT(agreement.high, agreement.alpha);
}

TEST(Agreement, IsThatOfDoubleLoopsForEveryDistance) {
  std::mt19937 random(5);
  for (int round = 0; round < 20; ++round) {
    std::vector<JudgedUnit> units;
    for (uint64_t u = 0; u < 15; ++u) {
      JudgedUnit unit{u / 2, {}};
      const auto centre = static_cast<int>(random() % 7);
      for (std::size_t i = 0; i < random() % 5; ++i) {
        unit.values.push_back(static_cast<float>(centre + static_cast<int>(random() % 4) - 4));
      }
      units.push_back(unit);
    }
    for (const auto distance : {Distance::kNominal, Distance::kOrdinal, Distance::kInterval}) {
      EXPECT_NEAR(krippendorff_alpha(units, distance)->alpha, by_double_loops(units, distance),
                  1e-12);
    }
  }
}

TEST(Agreement, IsNotDefinedWithoutTwoQuestionsOrTwoValues) {
  EXPECT_FALSE(krippendorff_alpha({}, Distance::kNominal));
  EXPECT_FALSE(krippendorff_alpha({{1, {1, 2}}, {2, {1}}}, Distance::kNominal));
  EXPECT_FALSE(krippendorff_alpha({{1, {1, 1}}, {2, {1, 1}}}, Distance::kNominal));
}

/// Two people who copy the truth with probability `skill`: alpha tends to a known value.
TEST(Agreement, IntervalHoldsAboutAsOftenAsItSays) {
  std::mt19937 random(11);
  const double skill = 0.7;
  const double truth = skill * skill;  // two values, equally frequent: alpha = (2 p - 1)^2 there
  int held = 0;
  constexpr int kRounds = 400;
  std::bernoulli_distribution copies(skill), coin(0.5);
  for (int round = 0; round < kRounds; ++round) {
    std::vector<JudgedUnit> units;
    for (uint64_t u = 0; u < 200; ++u) {
      const bool right = coin(random);
      const auto one = [&] { return copies(random) ? right : coin(random); };
      units.push_back({u, {one() ? 1.0F : 0.0F, one() ? 1.0F : 0.0F}});
    }
    const auto agreement = *krippendorff_alpha(units, Distance::kNominal);
    held += agreement.low <= truth && truth <= agreement.high ? 1 : 0;
  }
  EXPECT_GT(held, kRounds * 0.91);
  EXPECT_LT(held, kRounds * 0.985) << "wider than need be";
}

TEST(ShareAtAnyTime, NeverLeavesTheTruthMoreOftenThanItSays) {
  std::mt19937 random(3);
  for (const double truth : {0.5, 0.7, 0.97}) {
    std::bernoulli_distribution trial(truth);
    int left = 0;
    constexpr int kPeople = 400, kAnswers = 400;
    for (int person = 0; person < kPeople; ++person) {
      int64_t successes = 0;
      bool outside = false;
      for (int64_t n = 1; n <= kAnswers; ++n) {
        successes += trial(random) ? 1 : 0;
        const auto interval = share_at_any_time(successes, n);
        outside = outside || truth < interval.low || truth > interval.high;
      }
      left += outside ? 1 : 0;
    }
    EXPECT_LT(left, kPeople * 0.06) << truth;
  }
}

TEST(ShareAtAnyTime, NarrowsAndContainsWhatWasSeen) {
  EXPECT_EQ(share_at_any_time(0, 0).low, 0.0);
  EXPECT_EQ(share_at_any_time(0, 0).high, 1.0);
  const auto ten = share_at_any_time(7, 10), thousand = share_at_any_time(700, 1000);
  EXPECT_LT(ten.low, 0.5) << "no verdict after ten answers";
  EXPECT_GT(thousand.low, 0.6);
  EXPECT_LT(thousand.high, 0.8);
  EXPECT_EQ(share_at_any_time(50, 50).high, 1.0);
  EXPECT_GT(share_at_any_time(50, 50).low, 0.8);
  EXPECT_EQ(share_at_any_time(0, 50).low, 0.0);
}

}  // namespace
}  // namespace hone::data::service
