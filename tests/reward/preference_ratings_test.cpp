// Pairs from rating sessions against double loops over the records as they are stored.

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "data/error.h"
#include "reward/preference_data.h"
#include "tests/reward/random_records.h"

namespace hone::reward {
namespace {

using data::Records;
using data::Split;

double half_sign(double a, double b) { return a > b ? 1.0 : a == b ? 0.5 : 0.0; }

/// Ratings of one item by rater, optionally one fold of them.
std::map<std::string, double> ratings_of(const Records& records, int64_t item, RaterFold fold) {
  const auto& group = records.items[static_cast<size_t>(item)].group;
  std::set<std::string> everyone;
  for (const auto& rating : records.ratings) {
    if (records.items[static_cast<size_t>(rating.item)].group == group) {
      everyone.insert(rating.rater);
    }
  }
  const std::vector<std::string> sorted(everyone.begin(), everyone.end());
  std::map<std::string, double> out;
  for (const auto& rating : records.ratings) {
    if (rating.item != item) continue;
    const auto at = std::find(sorted.begin(), sorted.end(), rating.rater) - sorted.begin();
    if (fold == RaterFold::kEven && at % 2 == 1) continue;
    if (fold == RaterFold::kOdd && at % 2 == 0) continue;
    out[rating.rater] = rating.value;
  }
  return out;
}

struct Expected {
  double target = 0.0;
  bool exists = false;
};

Expected expected_pair(const Records& records, int64_t a, int64_t b, RaterFold fold) {
  const auto ra = ratings_of(records, a, fold), rb = ratings_of(records, b, fold);
  const bool within =
      records.items[static_cast<size_t>(a)].group == records.items[static_cast<size_t>(b)].group;
  double sum = 0.0, count = 0.0;
  for (const auto& [x, vx] : ra) {
    for (const auto& [y, vy] : rb) {
      if (within && x != y) continue;
      sum += half_sign(vx, vy);
      count += 1.0;
    }
  }
  return {count > 0.0 ? sum / count : 0.5, count > 0.0};
}

/// Checks every pair of a batch, that no pair is missing, and the weights of its parts.
void check_batch(const Records& records, const PairBatch& batch,
                 const PreferenceDataOptions& options) {
  std::set<int64_t> unique(batch.items.begin(), batch.items.end());
  ASSERT_EQ(unique.size(), batch.items.size());
  for (const int64_t item : batch.items) {
    EXPECT_EQ(records.items[static_cast<size_t>(item)].split, options.split);
  }
  std::map<std::pair<std::string, std::string>, std::vector<double>> parts;
  std::set<std::pair<int64_t, int64_t>> seen;
  double total = 0.0;
  for (const auto& pair : batch.pairs) {
    const int64_t a = batch.items.at(static_cast<size_t>(pair.first));
    const int64_t b = batch.items.at(static_cast<size_t>(pair.second));
    EXPECT_TRUE(seen.insert(std::minmax(a, b)).second) << "a pair occurs twice";
    const auto want = expected_pair(records, a, b, options.fold);
    EXPECT_TRUE(want.exists);
    EXPECT_NEAR(pair.target, want.target, 1e-6);
    const std::string ga = records.items[static_cast<size_t>(a)].group;
    const std::string gb = records.items[static_cast<size_t>(b)].group;
    parts[std::minmax(ga, gb)].push_back(pair.weight);
    total += pair.weight;
  }
  EXPECT_NEAR(total, 1.0, 1e-5);

  size_t pairs = 0;
  for (size_t i = 0; i < batch.items.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      pairs += expected_pair(records, batch.items[i], batch.items[j], options.fold).exists;
    }
  }
  EXPECT_EQ(pairs, batch.pairs.size());

  double part_weights = 0.0;
  for (const auto& [groups, weights] : parts) {
    part_weights += groups.first == groups.second ? 1.0 : options.across_weight;
  }
  for (const auto& [groups, weights] : parts) {
    const double part = groups.first == groups.second ? 1.0 : options.across_weight;
    for (const double weight : weights) {
      EXPECT_NEAR(weight, part / part_weights / static_cast<double>(weights.size()), 1e-7);
    }
  }
}

struct Case {
  double missing;
  bool real;
  RaterFold fold;
  double across_weight;
};

class RatingPairs : public ::testing::TestWithParam<Case> {};

TEST_P(RatingPairs, TargetsAndWeightsAreThoseOfADoubleLoop) {
  const auto [missing, real, fold, across_weight] = GetParam();
  const Records records = test::random_ratings(7, 12, 5, 4, missing, real);
  PreferenceDataOptions options;
  options.fold = fold;
  options.groups_per_batch = 3;
  options.across_weight = across_weight;
  const PreferenceData data(records, options);
  std::set<int64_t> items;
  const auto batches = data.epoch(1, 0);
  EXPECT_EQ(static_cast<int64_t>(batches.size()), data.batches_per_epoch());
  EXPECT_EQ(batches.size(), 2u);  // 4 training groups, 3 a batch
  for (const auto& batch : batches) {
    check_batch(records, batch, options);
    for (const int64_t item : batch.items) EXPECT_TRUE(items.insert(item).second);
  }
  EXPECT_EQ(std::vector<int64_t>(items.begin(), items.end()), data.items());
}

INSTANTIATE_TEST_SUITE_P(Records, RatingPairs,
                         ::testing::Values(Case{0.0, false, RaterFold::kAll, 1.0},
                                           Case{0.3, false, RaterFold::kAll, 1.0},
                                           Case{0.3, true, RaterFold::kAll, 0.25},
                                           Case{0.1, false, RaterFold::kEven, 1.0},
                                           Case{0.1, true, RaterFold::kOdd, 3.0},
                                           // most pairs have no common rater
                                           Case{0.6, false, RaterFold::kEven, 1.0}));

TEST(RatingPairs, AcrossWeightZeroLeavesGroupsAlone) {
  const Records records = test::random_ratings(3, 6, 4, 3, 0.0);
  PreferenceDataOptions options;
  options.across_weight = 0.0;
  for (const auto& batch : PreferenceData(records, options).epoch(0, 0)) {
    for (const auto& pair : batch.pairs) {
      EXPECT_EQ(records.items[static_cast<size_t>(batch.items[pair.first])].group,
                records.items[static_cast<size_t>(batch.items[pair.second])].group);
    }
  }
}

TEST(RatingPairs, FoldsShareNoRatingAndTogetherHoldAll) {
  const Records records = test::random_ratings(11, 9, 6, 5, 0.2);
  PreferenceDataOptions options;
  const PreferenceData all(records, options);
  options.fold = RaterFold::kEven;
  const PreferenceData even(records, options);
  options.fold = RaterFold::kOdd;
  const PreferenceData odd(records, options);
  EXPECT_EQ(even.judgements() + odd.judgements(), all.judgements());
  EXPECT_EQ(even.raters() + odd.raters(), all.raters());
  EXPECT_GT(odd.raters(), 0);
}

TEST(RatingPairs, OrderDependsOnSeedAndEpochOnly) {
  const Records records = test::random_ratings(5, 30, 4, 3, 0.1);
  const PreferenceData data(records, {.groups_per_batch = 2});
  const auto flat = [](const std::vector<PairBatch>& batches) {
    std::vector<double> out;
    for (const auto& batch : batches) {
      out.insert(out.end(), batch.items.begin(), batch.items.end());
      for (const auto& p : batch.pairs) {
        out.insert(out.end(), {static_cast<double>(p.first), static_cast<double>(p.second),
                               p.target, p.weight});
      }
    }
    return out;
  };
  EXPECT_EQ(flat(data.epoch(3, 2)), flat(PreferenceData(data).epoch(3, 2)));
  EXPECT_NE(flat(data.epoch(3, 2)), flat(data.epoch(3, 1)));
  EXPECT_NE(flat(data.epoch(3, 2)), flat(data.epoch(4, 2)));
}

TEST(RatingPairs, RatingsWithoutPseudonymAreComparedAcrossPeopleOnly) {
  Records records;
  for (const char* group : {"a", "a", "b", "b"}) {
    const int64_t item = test::add_item(records, group);
    data::Rating rating;
    rating.item = item;
    rating.value = static_cast<double>(item);
    records.ratings.push_back(rating);
  }
  const PreferenceData data(records, {});
  const auto batches = data.epoch(0, 0);
  ASSERT_EQ(batches.size(), 1u);
  EXPECT_EQ(batches[0].pairs.size(), 4u);
  EXPECT_EQ(data.raters(), 0);
  EXPECT_EQ(data.judgements(), 4);
}

TEST(RatingPairs, DimensionsAreNeverCompared) {
  Records records;
  for (const char* group : {"a", "b"}) {
    for (int i = 0; i < 2; ++i) {
      const int64_t item = test::add_item(records, group);
      data::Rating rating;
      rating.item = item;
      rating.rater = "anne";
      rating.dimension = group;  // each group is rated on a dimension of its own
      rating.value = i;
      records.ratings.push_back(rating);
    }
  }
  const auto batches = PreferenceData(records, {}).epoch(0, 0);
  ASSERT_EQ(batches.size(), 1u);
  EXPECT_EQ(batches[0].pairs.size(), 2u);
}

TEST(RatingPairs, LargeGroupIsDealtIntoPartsAnewEachEpoch) {
  const Records records = test::random_ratings(2, 1, 150, 2, 0.0);
  const PreferenceData data(records, {.groups_per_batch = 1});
  const auto first = data.epoch(0, 0), second = data.epoch(0, 1);
  ASSERT_EQ(first.size(), 3u);
  std::set<int64_t> items;
  for (const auto& batch : first) {
    EXPECT_EQ(batch.items.size(), 50u);
    EXPECT_EQ(batch.pairs.size(), 50u * 49u / 2u);
    items.insert(batch.items.begin(), batch.items.end());
  }
  EXPECT_EQ(items.size(), 150u);
  EXPECT_NE(first[0].items, second[0].items);
}

TEST(RatingPairs, BadRecordsAndOptionsAreInputErrors) {
  Records records = test::random_ratings(2, 3, 3, 2, 0.0);
  EXPECT_THROW(PreferenceData(records, {.groups_per_batch = 0}), data::InputError);
  EXPECT_THROW(PreferenceData(records, {.across_weight = -1.0}), data::InputError);
  EXPECT_THROW(PreferenceData(records, {.items_per_batch = 1}), data::InputError);
  records.ratings[0].item = 9;
  EXPECT_THROW(PreferenceData(records, {}), data::InputError);
  records.ratings[0].item = 0;
  records.ratings[0].value = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THROW(PreferenceData(records, {}), data::InputError);
}

TEST(RatingPairs, NothingInTheSplitMakesNoBatch) {
  const PreferenceData data(Records{}, {});
  EXPECT_EQ(data.batches_per_epoch(), 0);
  EXPECT_TRUE(data.epoch(0, 0).empty());
  EXPECT_TRUE(data.votes(true, 10, 0).empty());
  EXPECT_EQ(data.human_ceiling(false, 10, 0).count, 0);
}

}  // namespace
}  // namespace hone::reward
