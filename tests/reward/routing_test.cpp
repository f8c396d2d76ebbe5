// Routing thresholds and coverage curves against direct counts, and consensus pairs against loops.

#include "reward/routing.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <random>
#include <set>

#include "data/error.h"
#include "tests/reward/random_records.h"

namespace hone::reward {
namespace {

std::vector<JudgedChoice> random_choices(unsigned seed, int count, double agreement) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> uniform;
  std::vector<JudgedChoice> choices;
  for (int i = 0; i < count; ++i) {
    const double confidence = 0.5 + 0.5 * uniform(random);
    const double right = 0.5 + agreement * (confidence - 0.5);
    choices.push_back({confidence, uniform(random) >= right});
  }
  return choices;
}

TEST(Routing, BinomialTailAddsUpTheProbabilities) {
  for (const int n : {1, 2, 7, 30}) {
    for (const double p : {0.03, 0.25, 0.5, 0.9}) {
      std::vector<double> probability{1.0};  // of 0, 1 .. successes, trial by trial
      for (int trial = 0; trial < n; ++trial) {
        std::vector<double> next(probability.size() + 1);
        for (size_t k = 0; k < probability.size(); ++k) {
          next[k] += probability[k] * (1 - p);
          next[k + 1] += probability[k] * p;
        }
        probability = next;
      }
      double sum = 0;
      for (int k = 0; k <= n; ++k) {
        sum += probability[static_cast<size_t>(k)];
        EXPECT_NEAR(binomial_tail(k, n, p), sum, 1e-12) << k << " of " << n << " at " << p;
      }
    }
  }
  EXPECT_EQ(binomial_tail(0, 0, 0.1), 1.0);
}

TEST(Routing, TheThresholdRefutesTheRiskAndIsTheLowestOfItsSequences) {
  int found = 0;
  for (unsigned seed = 0; seed < 40; ++seed) {
    const auto choices = random_choices(seed, 300 + 40 * static_cast<int>(seed), 1.0);
    const RoutingGoal goal{0.15, 0.1};
    const auto rule = fit_routing(choices, goal);
    const auto refuted = [&](int percent) {
      int64_t straight = 0, wrong = 0;
      for (const auto& choice : choices) {
        if (choice.confidence < percent / 100.0) continue;
        ++straight;
        wrong += choice.wrong;
      }
      return binomial_tail(wrong, straight, goal.risk) <= goal.failure / 3;
    };
    int lowest = 100;
    for (const int start : {99, 90, 75}) {
      for (int percent = start; percent >= 50 && refuted(percent); --percent) {
        lowest = std::min(lowest, percent);
      }
    }
    if (lowest == 100) {
      EXPECT_GT(rule.threshold, 1.0);
      continue;
    }
    ++found;
    EXPECT_EQ(rule.threshold, lowest / 100.0);
    EXPECT_EQ(rule.judged, static_cast<int64_t>(choices.size()));
    EXPECT_LT(static_cast<double>(rule.wrong), goal.risk * static_cast<double>(rule.straight));
  }
  EXPECT_GT(found, 20);
}

TEST(Routing, NothingGoesStraightWithoutEvidence) {
  EXPECT_GT(fit_routing({}, {0.1, 0.1}).threshold, 1.0);
  EXPECT_GT(fit_routing({{0.99, false}, {0.99, false}}, {0.1, 0.1}).threshold, 1.0);
  EXPECT_GT(fit_routing(random_choices(1, 5000, 0.0), {0.3, 0.1}).threshold, 1.0);
  // 0.9^n <= 0.1 / 3 from n = 33 on.
  EXPECT_GT(fit_routing(std::vector<JudgedChoice>(32, {0.995, false}), {0.1, 0.1}).threshold, 1.0);
  EXPECT_EQ(fit_routing(std::vector<JudgedChoice>(33, {0.995, false}), {0.1, 0.1}).threshold, 0.5);
  for (const double bad : {0.0, 1.0, -0.1, std::nan("")}) {
    EXPECT_THROW(fit_routing({}, {bad, 0.1}), data::InputError);
    EXPECT_THROW(fit_routing({}, {0.1, bad}), data::InputError);
  }
}

TEST(Routing, CoverageCurveCountsTheMostConfident) {
  auto choices = random_choices(3, 500, 0.8);
  const auto curve = coverage_curve(choices);
  std::sort(choices.begin(), choices.end(),
            [](const auto& a, const auto& b) { return a.confidence > b.confidence; });
  double wrong = 0, area = 0, all = 0;
  for (const auto& choice : choices) all += choice.wrong;
  size_t point = 0;
  for (size_t k = 0; k < choices.size(); ++k) {
    wrong += choices[k].wrong;
    area += wrong / static_cast<double>(k + 1) / 500;
    if (k + 1 == (point + 1) * 50) {
      EXPECT_NEAR(curve.points[point].accuracy, 1 - wrong / static_cast<double>(k + 1), 1e-12);
      EXPECT_EQ(curve.points[point].confidence, choices[k].confidence);
      ++point;
    }
  }
  EXPECT_EQ(point, 10u);
  EXPECT_NEAR(curve.area, area, 1e-12);
  EXPECT_NEAR(curve.random_area, all / 500, 1e-12);
  EXPECT_LT(curve.least_area, curve.area);
  EXPECT_LT(curve.area, curve.random_area);
  // All of one confidence: no order to gain from.
  const auto flat = coverage_curve({{0.7, true}, {0.7, false}, {0.7, false}, {0.7, true}});
  EXPECT_NEAR(flat.area, 0.5, 1e-12);
  EXPECT_TRUE(coverage_curve({}).points.empty());
}

TEST(Routing, ChoicesFollowTheScores) {
  const std::vector<float> scores{1.0f, 3.0f, 3.0f};
  const auto choices = judged_choices(
      scores, {{0, 1, 0.0f, true}, {1, 0, 0.0f, true}, {1, 2, 1.0f, true}, {0, 2, 0.5f, true}},
      2.0);
  ASSERT_EQ(choices.size(), 3u);  // the tie says nothing
  EXPECT_NEAR(choices[0].confidence, 1 / (1 + std::exp(-1.0)), 1e-12);
  EXPECT_FALSE(choices[0].wrong);
  EXPECT_TRUE(choices[1].wrong);
  EXPECT_EQ(choices[2].confidence, 0.5);
  EXPECT_TRUE(choices[2].wrong) << "equal scores choose nothing";
}

TEST(Consensus, PairsShareNoItemAndHaveTheMajority) {
  auto records = test::random_ratings(5, 12, 7, 5, 0.3);
  for (int g = 0; g < 6; ++g) {
    const auto a = test::add_item(records, "c" + std::to_string(g));
    const auto b = test::add_item(records, "c" + std::to_string(g));
    for (int k = 0; k < 1 + g; ++k) {  // in turn, so that an even number is split
      const std::vector<uint8_t> ranks =
          k % 2 == 0 ? std::vector<uint8_t>{0, 1} : std::vector<uint8_t>{1, 0};
      test::add_comparison(records, {a, b}, ranks, "r" + std::to_string(k));
    }
  }
  const PreferenceData data(records, {});
  const auto votes = data.consensus(3);
  std::set<int64_t> used;
  int compared = 0, rated = 0;
  for (const auto& vote : votes) {
    EXPECT_TRUE(used.insert(vote.first).second);
    EXPECT_TRUE(used.insert(vote.second).second);
    EXPECT_EQ(records.items[static_cast<size_t>(vote.first)].group,
              records.items[static_cast<size_t>(vote.second)].group);
    int balance = 0;
    std::map<std::string, double> of_first;
    for (const auto& rating : records.ratings) {
      if (rating.item == vote.first) of_first[rating.rater] = rating.value;
    }
    for (const auto& rating : records.ratings) {
      if (rating.item != vote.second || !of_first.contains(rating.rater)) continue;
      const double difference = of_first[rating.rater] - rating.value;
      balance += (difference > 0) - (difference < 0);
    }
    for (const auto& comparison : records.comparisons) {
      if (comparison.items[0] == std::min(vote.first, vote.second)) {
        const int said = comparison.ranks[0] < comparison.ranks[1] ? 1 : -1;
        balance += vote.first < vote.second ? said : -said;
      }
    }
    EXPECT_EQ(vote.target, balance > 0 ? 1.0f : 0.0f);
    EXPECT_NE(balance, 0);
    ++(vote.first >= static_cast<int64_t>(records.items.size()) - 12 ? compared : rated);
  }
  EXPECT_EQ(compared, 3) << "groups with 1, 3 and 5 judgements; 2, 4 and 6 are split evenly";
  EXPECT_GE(rated, 6);
  const auto again = data.consensus(3);
  ASSERT_EQ(again.size(), votes.size());
  for (size_t i = 0; i < votes.size(); ++i) EXPECT_EQ(again[i].first, votes[i].first);
}

}  // namespace
}  // namespace hone::reward
