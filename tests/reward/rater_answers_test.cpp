// Who said what, by rater: PreferenceData::answers, PairBatch::answers and known answers.

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "data/error.h"
#include "reward/preference_data.h"
#include "tests/reward/random_records.h"

namespace hone::reward {
namespace {

using data::Records;

/// (lower item, higher item, rater's name, target for the lower, place of the lower).
using Said = std::tuple<int64_t, int64_t, std::string, float, int>;

Said said(const PreferenceData& data, int64_t first, int64_t second, int32_t rater, float target,
          int shown) {
  const std::string name = rater < 0 ? "" : data.rater_names()[static_cast<size_t>(rater)];
  if (first < second) return {first, second, name, target, shown};
  return {second, first, name, 1.0f - target, -shown};
}

std::multiset<Said> by_rater(const PreferenceData& data) {
  std::multiset<Said> out;
  int32_t last = 0;
  for (const auto& a : data.answers()) {
    EXPECT_GE(a.rater, last);
    last = a.rater;
    out.insert(said(data, a.first, a.second, a.rater, a.target, a.first_shown));
  }
  return out;
}

std::multiset<Said> by_batch(const PreferenceData& data, bool named) {
  std::multiset<Said> out;
  for (const auto& batch : data.epoch(1, 0)) {
    for (const auto& a : batch.answers) {
      const auto& pair = batch.pairs.at(static_cast<size_t>(a.pair));
      if (named && a.rater < 0) continue;
      out.insert(said(data, batch.items[static_cast<size_t>(pair.first)],
                      batch.items[static_cast<size_t>(pair.second)], a.rater, a.target,
                      a.first_shown));
    }
  }
  return out;
}

TEST(RaterAnswers, ComparisonsKeepTheirRaterAndThePlacesShown) {
  Records records;
  for (int i = 0; i < 4; ++i) test::add_item(records, "g");
  test::add_comparison(records, {1, 0}, {0, 1}, "anne").shown = {1, 0};  // 0 stood first
  test::add_comparison(records, {0, 1}, {0, 0}, "ben").shown = {0, 1};
  test::add_comparison(records, {2, 3}, {1, 0}, "");
  test::add_comparison(records, {3, 0, 2}, {1, 0, 2}, "anne").shown = {2, 0, 1};  // 2, 3, 0
  const PreferenceData data(records, {.answers = true});
  const std::multiset<Said> named = {{0, 1, "anne", 0.0f, 1},
                                     {0, 1, "ben", 0.5f, 1},
                                     {0, 3, "anne", 1.0f, -1},
                                     {2, 3, "anne", 0.0f, 1},
                                     {0, 2, "anne", 1.0f, -1}};
  EXPECT_EQ(by_rater(data), named);
  EXPECT_EQ(by_batch(data, true), named);
  auto all = named;
  all.insert({2, 3, "", 0.0f, 0});
  EXPECT_EQ(by_batch(data, false), all);
  double evidence = 0.0;
  for (const auto& answer : data.answers()) evidence += static_cast<double>(answer.evidence);
  EXPECT_NEAR(evidence, 1 + 1 + 2, 1e-6);  // an ordering of three is worth two answers
  // Nobody asked: none, and the same pairs.
  const PreferenceData plain(records, {});
  ASSERT_EQ(plain.epoch(1, 0).size(), 1u);
  EXPECT_TRUE(plain.epoch(1, 0)[0].answers.empty());
  for (size_t p = 0; p < plain.epoch(1, 0)[0].pairs.size(); ++p) {
    const auto a = plain.epoch(1, 0)[0].pairs[p], b = data.epoch(1, 0)[0].pairs[p];
    EXPECT_EQ(std::tuple(a.first, a.second, a.target, a.weight),
              std::tuple(b.first, b.second, b.target, b.weight));
  }
}

TEST(RaterAnswers, RatingsAreEveryTwoOfOnePersonInAGroup) {
  const Records records = test::random_ratings(1, 3, 7, 4, 0.3);
  const PreferenceData data(records, {.answers = true});
  std::map<std::string, std::map<int64_t, double>> rated;
  for (const auto& rating : records.ratings) {
    if (records.items[static_cast<size_t>(rating.item)].split == data::Split::kTrain) {
      rated[rating.rater][rating.item] = rating.value;
    }
  }
  std::multiset<Said> want;
  double independent = 0.0;
  for (const auto& [rater, values] : rated) {
    if (values.size() > 1) independent += static_cast<double>(values.size()) - 1.0;
    for (auto a = values.begin(); a != values.end(); ++a) {
      for (auto b = std::next(a); b != values.end(); ++b) {
        const float target = a->second > b->second ? 1.0f : a->second < b->second ? 0.0f : 0.5f;
        want.insert({a->first, b->first, rater, target, 0});
      }
    }
  }
  EXPECT_EQ(by_rater(data), want);
  EXPECT_EQ(by_batch(data, true), want);
  double evidence = 0.0;
  for (const auto& answer : data.answers()) evidence += static_cast<double>(answer.evidence);
  EXPECT_NEAR(evidence, independent, 1e-4);
}

TEST(RaterAnswers, LargeGroupsTakeThirtyTwoNeighboursOnEachSide) {
  const Records records = test::random_ratings(2, 1, 100, 1, 0.0);
  const PreferenceData data(records, {});
  std::map<int64_t, int> count;
  double evidence = 0.0;
  for (const auto& answer : data.answers()) {
    ++count[answer.first];
    ++count[answer.second];
    evidence += static_cast<double>(answer.evidence);
  }
  ASSERT_EQ(count.size(), 100u);
  for (const auto& [item, pairs] : count) EXPECT_EQ(pairs, 64) << item;
  EXPECT_NEAR(evidence, 99.0, 1e-3);
}

TEST(RaterAnswers, KnownAnswersAreCountedAndAreNoEvidenceTwice) {
  Records records;
  for (int i = 0; i < 2; ++i) test::add_item(records, "g");
  for (const char* rater : {"anne", "ben"}) {
    for (int k = 0; k < 3; ++k) {
      auto& comparison = test::add_comparison(records, {0, 1}, {0, 1}, rater);
      data::Answer answer;
      answer.id = comparison.id;
      answer.rater = rater;
      answer.purpose = k == 2 ? 3 : 1;              // a repeat is not known
      answer.same = k == 1 ? -1 : rater[0] == 'a';  // nor is a gold question without verdict
      records.answers.push_back(answer);
    }
  }
  const PreferenceData data(records, {.answers = true});
  ASSERT_EQ(data.known().size(), 2u);
  EXPECT_EQ(data.known()[0].right, 1);
  EXPECT_EQ(data.known()[0].wrong, 0);
  EXPECT_EQ(data.known()[1].right, 0);
  EXPECT_EQ(data.known()[1].wrong, 1);
  int without = 0;
  for (const auto& answer : data.answers()) without += answer.evidence == 0.0f;
  EXPECT_EQ(without, 2);
}

TEST(RaterAnswers, AnOrderShownThatIsNotOfItsItemsIsNamed) {
  Records records;
  for (int i = 0; i < 2; ++i) test::add_item(records, "g");
  test::add_comparison(records, {0, 1}, {0, 1}, "anne").shown = {0, 2};
  EXPECT_THROW(PreferenceData(records, {}), data::InputError);
}

}  // namespace
}  // namespace hone::reward
