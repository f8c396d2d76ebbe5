// Pairs from explicit comparisons: merged judgements, splits, folds, batches.

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "data/error.h"
#include "reward/preference_data.h"
#include "tests/reward/random_records.h"

namespace hone::reward {
namespace {

using data::Outcome;
using data::Records;
using data::Split;
using PairKey = std::pair<int64_t, int64_t>;

/// Random comparisons of k = 2 to 4 items inside groups, some skipped or both bad.
Records random_comparisons(unsigned seed, int groups, int items, int comparisons) {
  std::mt19937 random(seed);
  Records records;
  std::vector<std::vector<int64_t>> members(static_cast<size_t>(groups));
  for (int g = 0; g < groups; ++g) {
    for (int i = 0; i < items; ++i) {
      members[static_cast<size_t>(g)].push_back(test::add_item(
          records, "group " + std::to_string(g), static_cast<Split>(g % 5 == 4 ? 2 : 0)));
    }
  }
  for (int c = 0; c < comparisons; ++c) {
    auto chosen = members[random() % members.size()];
    std::shuffle(chosen.begin(), chosen.end(), random);
    chosen.resize(std::min<size_t>(chosen.size(), 2 + random() % 3));
    std::vector<uint8_t> ranks;
    for (size_t i = 0; i < chosen.size(); ++i) ranks.push_back(static_cast<uint8_t>(random() % 3));
    auto& comparison =
        test::add_comparison(records, chosen, ranks, "rater " + std::to_string(random() % 6));
    if (random() % 10 == 0) comparison.outcome = Outcome::kSkipped;
    if (random() % 10 == 0) comparison.outcome = Outcome::kBothBad;
    if (comparison.outcome != Outcome::kOrdered) comparison.ranks.clear();
  }
  return records;
}

TEST(ComparisonPairs, JudgementsOfOnePairMergeIntoOneTargetAndCount) {
  const Records records = random_comparisons(1, 10, 6, 300);
  std::map<PairKey, std::pair<double, double>> want;  // (first, second) -> sum, count
  for (const auto& comparison : records.comparisons) {
    if (comparison.outcome != Outcome::kOrdered) continue;
    for (size_t i = 0; i < comparison.items.size(); ++i) {
      for (size_t j = 0; j < comparison.items.size(); ++j) {
        if (comparison.items[i] >= comparison.items[j]) continue;
        if (records.items[static_cast<size_t>(comparison.items[i])].split != Split::kTrain) {
          continue;
        }
        auto& [sum, count] = want[{comparison.items[i], comparison.items[j]}];
        const int a = comparison.ranks[i], b = comparison.ranks[j];
        sum += a < b ? 1.0 : a == b ? 0.5 : 0.0;
        count += 1.0;
      }
    }
  }
  const PreferenceData data(records, {.items_per_batch = 16});
  std::set<PairKey> seen;
  for (const auto& batch : data.epoch(4, 2)) {
    EXPECT_LE(batch.items.size(), 16u);
    EXPECT_EQ(std::set<int64_t>(batch.items.begin(), batch.items.end()).size(), batch.items.size());
    double total = 0.0, counts = 0.0;
    for (const auto& pair : batch.pairs) {
      const PairKey key = {batch.items[static_cast<size_t>(pair.first)],
                           batch.items[static_cast<size_t>(pair.second)]};
      ASSERT_TRUE(want.contains(key));
      EXPECT_TRUE(seen.insert(key).second) << "a pair occurs twice in an epoch";
      EXPECT_NEAR(pair.target, want[key].first / want[key].second, 1e-6);
      counts += want[key].second;
      total += pair.weight;
    }
    EXPECT_NEAR(total, 1.0, 1e-5);
    for (const auto& pair : batch.pairs) {
      const PairKey key = {batch.items[static_cast<size_t>(pair.first)],
                           batch.items[static_cast<size_t>(pair.second)]};
      EXPECT_NEAR(pair.weight, want[key].second / counts, 1e-6);
    }
  }
  EXPECT_EQ(seen.size(), want.size());
}

TEST(ComparisonPairs, GroupThatFitsStaysInOneBatch) {
  const Records records = random_comparisons(2, 12, 5, 400);
  const PreferenceData data(records, {.items_per_batch = 12});
  std::map<std::string, std::set<size_t>> batches_of;
  const auto batches = data.epoch(0, 0);
  for (size_t b = 0; b < batches.size(); ++b) {
    for (const int64_t item : batches[b].items) {
      batches_of[records.items[static_cast<size_t>(item)].group].insert(b);
    }
  }
  EXPECT_GT(batches.size(), 1u);
  for (const auto& [group, where] : batches_of) EXPECT_EQ(where.size(), 1u) << group;
}

TEST(ComparisonPairs, LargeGroupIsCutWithEachPairOnce) {
  const Records records = random_comparisons(3, 1, 60, 500);
  const PreferenceData data(records, {.items_per_batch = 20});
  std::set<PairKey> seen;
  size_t pairs = 0;
  for (const auto& batch : data.epoch(0, 0)) {
    EXPECT_LE(batch.items.size(), 20u);
    pairs += batch.pairs.size();
    for (const auto& pair : batch.pairs) {
      seen.insert({batch.items[static_cast<size_t>(pair.first)],
                   batch.items[static_cast<size_t>(pair.second)]});
    }
  }
  EXPECT_EQ(seen.size(), pairs);
  EXPECT_EQ(data.items().size(), 60u);
}

TEST(ComparisonPairs, ComparisonThatTouchesAnotherSplitIsLeftOut) {
  Records records;
  const int64_t train = test::add_item(records, "a");
  const int64_t other = test::add_item(records, "a");
  const int64_t held = test::add_item(records, "b", Split::kTest);
  test::add_comparison(records, {train, held}, {0, 1});
  test::add_comparison(records, {train, other, held}, {0, 1, 2});
  EXPECT_TRUE(PreferenceData(records, {}).epoch(0, 0).empty());
  EXPECT_TRUE(PreferenceData(records, {.split = Split::kTest}).epoch(0, 0).empty());
  test::add_comparison(records, {train, other}, {1, 0});
  const auto batches = PreferenceData(records, {}).epoch(0, 0);
  ASSERT_EQ(batches.size(), 1u);
  EXPECT_EQ(batches[0].pairs.size(), 1u);
}

TEST(ComparisonPairs, FoldsAreDisjointAndAnonymousAnswersAreDivided) {
  Records records = random_comparisons(5, 8, 5, 300);
  for (size_t c = 0; c < records.comparisons.size(); c += 2) records.comparisons[c].rater.clear();
  const PreferenceData all(records, {});
  const PreferenceData even(records, {.fold = RaterFold::kEven});
  const PreferenceData odd(records, {.fold = RaterFold::kOdd});
  EXPECT_EQ(even.judgements() + odd.judgements(), all.judgements());
  EXPECT_GT(even.judgements(), all.judgements() / 4);
  EXPECT_GT(odd.judgements(), all.judgements() / 4);
}

TEST(ComparisonPairs, VotesAreTheJudgementsOfTheirKind) {
  Records records;
  for (int i = 0; i < 3; ++i) test::add_item(records, "a");
  test::add_comparison(records, {0, 1}, {1, 0}, "anne");
  test::add_comparison(records, {1, 2}, {0, 0});  // one unknown person
  test::add_comparison(records, {0, 2}, {0, 1}).provenance.kind = "across-people";
  const PreferenceData data(records, {});
  const auto own = data.votes(true, 10, 0), across = data.votes(false, 10, 0);
  ASSERT_EQ(own.size(), 2u);
  for (const auto& vote : own) {
    EXPECT_TRUE(vote.same_person);
    EXPECT_EQ(vote.target, vote.first == 0 ? 0.0f : 0.5f);
  }
  ASSERT_EQ(across.size(), 1u);
  EXPECT_EQ(across[0].target, 1.0f);
  EXPECT_EQ(across[0].second, 2);
  EXPECT_EQ(data.votes(true, 1, 0).size(), 1u);
}

TEST(ComparisonPairs, BothKindsOfJudgementShareAnEpoch) {
  Records records = test::random_ratings(1, 9, 4, 3, 0.0);
  for (int i = 0; i < 4; ++i) test::add_item(records, "pairs");
  const auto first = static_cast<int64_t>(records.items.size()) - 4;
  test::add_comparison(records, {first, first + 1}, {0, 1});
  test::add_comparison(records, {first + 2, first + 3}, {0, 1});
  const PreferenceData data(records, {});
  const auto batches = data.epoch(0, 0);
  EXPECT_EQ(batches.size(), 2u);  // 3 rated training groups; the comparisons
  EXPECT_EQ(data.items().size(), 16u);
  EXPECT_EQ(data.votes(true, 100, 0).size(), 100u);
}

TEST(ComparisonPairs, BadRecordsAreInputErrors) {
  Records records;
  for (int i = 0; i < 2; ++i) test::add_item(records, "a");
  test::add_comparison(records, {0, 1}, {0});
  EXPECT_THROW(PreferenceData(records, {}), data::InputError);
  records.comparisons[0].ranks = {0, 1};
  records.comparisons[0].items = {0, -1};
  EXPECT_THROW(PreferenceData(records, {}), data::InputError);
}

}  // namespace
}  // namespace hone::reward
