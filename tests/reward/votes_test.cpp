// Drawn votes and human ceilings against the enumeration of everything that can be drawn.

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "reward/preference_data.h"
#include "tests/reward/random_records.h"

namespace hone::reward {
namespace {

using data::Records;

struct Drawable {
  double weight;           // probability of this ordered pair
  std::vector<int> signs;  // of the people who can judge it
};

std::map<std::string, double> by_rater(const Records& records, int64_t item) {
  std::map<std::string, double> out;
  for (const auto& rating : records.ratings) {
    if (rating.item == item) out[rating.rater] = rating.value;
  }
  return out;
}

int sign(double x) { return (x > 0.0) - (x < 0.0); }

/// Every ordered pair of one group's training items: groups are equally likely.
std::vector<Drawable> same_person_pairs(const Records& records) {
  std::map<std::string, std::vector<int64_t>> groups;
  for (size_t i = 0; i < records.items.size(); ++i) {
    if (records.items[i].split == data::Split::kTrain) {
      groups[records.items[i].group].push_back(static_cast<int64_t>(i));
    }
  }
  std::vector<Drawable> out;
  for (const auto& [name, items] : groups) {
    const auto n = static_cast<double>(items.size());
    for (const int64_t a : items) {
      for (const int64_t b : items) {
        if (a == b) continue;
        Drawable pair{1.0 / (static_cast<double>(groups.size()) * n * (n - 1.0)), {}};
        const auto rb = by_rater(records, b);
        for (const auto& [rater, value] : by_rater(records, a)) {
          const auto other = rb.find(rater);
          if (other != rb.end()) pair.signs.push_back(sign(value - other->second));
        }
        out.push_back(pair);
      }
    }
  }
  return out;
}

TEST(Votes, SamePersonVotesHaveTheExpectedShares) {
  const Records records = test::random_ratings(21, 9, 4, 4, 0.25);
  double ones = 0.0, ties = 0.0, all = 0.0;
  for (const auto& pair : same_person_pairs(records)) {
    if (pair.signs.empty()) continue;  // drawn again
    const double each = pair.weight / static_cast<double>(pair.signs.size());
    for (const int s : pair.signs) {
      ones += s > 0 ? each : 0.0;
      ties += s == 0 ? each : 0.0;
    }
    all += pair.weight;
  }
  const int64_t count = 40000;
  const auto votes = PreferenceData(records, {}).votes(true, count, 5);
  ASSERT_EQ(static_cast<int64_t>(votes.size()), count);
  double got_ones = 0.0, got_ties = 0.0;
  for (const auto& vote : votes) {
    EXPECT_TRUE(vote.same_person);
    EXPECT_NE(vote.first, vote.second);
    EXPECT_EQ(records.items[static_cast<size_t>(vote.first)].group,
              records.items[static_cast<size_t>(vote.second)].group);
    got_ones += vote.target == 1.0f;
    got_ties += vote.target == 0.5f;
  }
  EXPECT_NEAR(got_ones / static_cast<double>(count), ones / all, 0.01);  // 4 standard errors
  EXPECT_NEAR(got_ties / static_cast<double>(count), ties / all, 0.01);
}

TEST(Votes, AcrossVotesJoinTwoGroupsAndHaveTheExpectedTies) {
  const Records records = test::random_ratings(22, 9, 4, 4, 0.25);
  double ties = 0.0, all = 0.0;
  for (size_t a = 0; a < records.items.size(); ++a) {
    for (size_t b = 0; b < records.items.size(); ++b) {
      if (records.items[a].group == records.items[b].group) continue;
      if (records.items[a].split != data::Split::kTrain) continue;
      if (records.items[b].split != data::Split::kTrain) continue;
      const auto ra = by_rater(records, static_cast<int64_t>(a));
      const auto rb = by_rater(records, static_cast<int64_t>(b));
      if (ra.empty() || rb.empty()) continue;
      double tied = 0.0;
      for (const auto& [x, vx] : ra) {
        for (const auto& [y, vy] : rb) tied += vx == vy;
      }
      ties += tied / static_cast<double>(ra.size() * rb.size());
      all += 1.0;
    }
  }
  const auto votes = PreferenceData(records, {}).votes(false, 40000, 6);
  ASSERT_EQ(votes.size(), 40000u);
  double got_ties = 0.0;
  for (const auto& vote : votes) {
    EXPECT_FALSE(vote.same_person);
    EXPECT_NE(records.items[static_cast<size_t>(vote.first)].group,
              records.items[static_cast<size_t>(vote.second)].group);
    got_ties += vote.target == 0.5f;
  }
  EXPECT_NEAR(got_ties / 40000.0, ties / all, 0.01);
}

TEST(Votes, DependOnTheSeedOnlyAndStayInTheFold) {
  const Records records = test::random_ratings(23, 9, 4, 4, 0.0);
  const PreferenceData even(records, {.fold = RaterFold::kEven});
  const auto a = even.votes(true, 50, 1), b = even.votes(true, 50, 1), c = even.votes(true, 50, 2);
  const auto same = [](const std::vector<Vote>& x, const std::vector<Vote>& y) {
    for (size_t i = 0; i < x.size(); ++i) {
      if (x[i].first != y[i].first || x[i].target != y[i].target) return false;
    }
    return true;
  };
  EXPECT_TRUE(same(a, b));
  EXPECT_FALSE(same(a, c));
  // Raters 0 and 2 of each group are the even ones.
  for (const auto& vote : a) {
    const auto ra = by_rater(records, vote.first), rb = by_rater(records, vote.second);
    bool found = false;
    for (const char* rater : {"/rater 0", "/rater 2"}) {
      const std::string name = records.items[static_cast<size_t>(vote.first)].group + rater;
      found = found || 0.5 * (1 + sign(ra.at(name) - rb.at(name))) == vote.target;
    }
    EXPECT_TRUE(found);
  }
}

TEST(HumanCeiling, IsTheEnumeratedExpectation) {
  const Records records = test::random_ratings(31, 12, 5, 5, 0.2);
  double majority = 0.0, majority_weight = 0.0, agree = 0.0, agree_weight = 0.0;
  double ties = 0.0, all = 0.0;
  for (const auto& pair : same_person_pairs(records)) {
    const auto n = static_cast<double>(pair.signs.size());
    if (n < 2) continue;
    all += pair.weight;
    for (size_t i = 0; i < pair.signs.size(); ++i) {
      const int mine = pair.signs[i];
      if (mine == 0) {
        ties += pair.weight / n;
        continue;
      }
      int others = 0;
      for (size_t j = 0; j < pair.signs.size(); ++j) {
        if (j == i) continue;
        others += pair.signs[j];
        if (pair.signs[j] == 0) continue;
        agree += pair.weight / (n * (n - 1.0)) * (pair.signs[j] == mine);
        agree_weight += pair.weight / (n * (n - 1.0));
      }
      majority += pair.weight / n * (others == 0 ? 0.5 : sign(others) == mine ? 1.0 : 0.0);
      majority_weight += pair.weight / n;
    }
  }
  const auto got = PreferenceData(records, {}).human_ceiling(true, 60000, 9);
  EXPECT_EQ(got.count, 60000);
  EXPECT_NEAR(got.person_vs_majority, majority / majority_weight, 0.01);
  EXPECT_NEAR(got.person_vs_person, agree / agree_weight, 0.012);
  EXPECT_NEAR(got.tie_rate, ties / all, 0.008);
}

TEST(HumanCeiling, OfPeopleWhoAgreeIsOneAndOfCoinsIsOneHalf) {
  Records records;
  for (int group = 0; group < 4; ++group) {
    for (int i = 0; i < 5; ++i) {
      const int64_t item = test::add_item(records, "group " + std::to_string(group));
      for (int rater = 0; rater < 3; ++rater) {
        data::Rating rating;
        rating.item = item;
        rating.rater = "rater " + std::to_string(rater);
        rating.value = static_cast<double>(i);
        records.ratings.push_back(rating);
      }
    }
  }
  const auto agreed = PreferenceData(records, {}).human_ceiling(true, 1000, 1);
  EXPECT_EQ(agreed.person_vs_majority, 1.0);
  EXPECT_EQ(agreed.person_vs_person, 1.0);
  EXPECT_EQ(agreed.tie_rate, 0.0);
  const Records coins = test::random_ratings(32, 60, 20, 5, 0.0, true);
  const auto across = PreferenceData(coins, {}).human_ceiling(false, 20000, 1);
  EXPECT_NEAR(across.person_vs_person, 0.5, 0.02);
  EXPECT_EQ(across.tie_rate, 0.0);
}

TEST(HumanCeiling, OfComparisonsUsesPairsJudgedByTwoOrMore) {
  Records records;
  for (int i = 0; i < 4; ++i) test::add_item(records, "a");
  test::add_comparison(records, {0, 1}, {0, 1}, "anne");
  EXPECT_EQ(PreferenceData(records, {}).human_ceiling(true, 100, 0).count, 0);
  test::add_comparison(records, {1, 0}, {1, 0}, "ben");    // the same view in another order
  test::add_comparison(records, {0, 1}, {1, 0}, "carol");  // the other view
  const auto got = PreferenceData(records, {}).human_ceiling(true, 30000, 0);
  EXPECT_EQ(got.count, 30000);
  // anne and ben: the others are split (one half); carol: both are against her.
  EXPECT_NEAR(got.person_vs_majority, 1.0 / 3.0, 0.015);
  EXPECT_NEAR(got.person_vs_person, 1.0 / 3.0, 0.015);
}

}  // namespace
}  // namespace hone::reward
