#include "data/quality/selection_note.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <string>
#include <vector>

namespace hone::data {
namespace {

Answer answer_to(const SelectionNote& note, const std::string& question, int better,
                 const std::string& reward = "model") {
  Answer answer;
  answer.id = "answer to " + question + " " + std::to_string(better);
  answer.question = question;
  answer.body = better == 0  ? R"({"outcome":"ordered","ranks":[0,0]})"
                : better < 0 ? R"({"outcome":"ordered","ranks":[0,1],"strength":2})"
                             : R"({"outcome":"ordered","ranks":[1,0],"strength":2})";
  answer.acquisition = selection_note_text(note);
  answer.provenance.reward_hash = reward;
  return answer;
}

SelectionNote note_of(bool by_rule, double probability, int64_t stratum, int64_t pool) {
  SelectionNote note;
  note.selection = "batch";
  note.rule = "d_optimal";
  note.by_rule = by_rule;
  note.probability = probability;
  note.stratum = stratum;
  note.pool = pool;
  return note;
}

TEST(SelectionNoteTest, WhatIsWrittenIsReadBackAndOtherTextsAreNoNotes) {
  auto note = note_of(false, 0.625, 30, 40);
  note.spread = 0.125;
  note.score = 0.3;
  const auto read = parse_selection_note(selection_note_text(note));
  ASSERT_TRUE(read);
  EXPECT_EQ(read->selection, "batch");
  EXPECT_EQ(read->rule, "d_optimal");
  EXPECT_FALSE(read->by_rule);
  EXPECT_EQ(read->probability, 0.625);
  EXPECT_EQ(read->spread, 0.125);
  EXPECT_EQ(read->score, 0.3);
  EXPECT_EQ(read->stratum, 30);
  EXPECT_EQ(read->pool, 40);
  for (const char* other : {"", "entropy 0.3", "{}", "[1]", "3", R"({"rule": 1})"}) {
    EXPECT_FALSE(parse_selection_note(other)) << other;
  }
  note.stratum = 41;  // more than the pool
  EXPECT_FALSE(parse_selection_note(selection_note_text(note)));
}

// Two strata by hand: 2 pairs asked for certain, 8 others of which 4 were drawn.
TEST(PoolAccuracyTest, StrataAreWeightedByWhatTheyStandFor) {
  Records records;
  records.answers.push_back(answer_to(note_of(true, 0.6, 2, 10), "a", -1));   // right
  records.answers.push_back(answer_to(note_of(true, 0.4, 2, 10), "b", -1));   // wrong
  records.answers.push_back(answer_to(note_of(false, 0.9, 8, 10), "c", -1));  // right
  records.answers.push_back(answer_to(note_of(false, 0.1, 8, 10), "d", 1));   // right
  records.answers.push_back(answer_to(note_of(false, 0.9, 8, 10), "e", 1));   // wrong
  records.answers.push_back(answer_to(note_of(false, 0.9, 8, 10), "f", 0));   // tie
  const auto pools = pool_accuracy(records);
  ASSERT_EQ(pools.size(), 1u);
  EXPECT_EQ(pools[0].answers, 6);
  EXPECT_EQ(pools[0].pool, 10);
  EXPECT_NEAR(pools[0].asked, 3.0 / 5.0, 1e-12);
  ASSERT_TRUE(pools[0].accuracy);
  const double right = 2 * 0.5 + 8 * 0.5, decided = 2 * 1.0 + 8 * 0.75;
  EXPECT_NEAR(*pools[0].accuracy, right / decided, 1e-12);
  // Of residuals right - ratio decided; the first stratum was asked whole and adds nothing.
  const double ratio = right / decided;
  const std::vector<double> residuals = {1 - ratio, 1 - ratio, -ratio, 0};
  double mean = 0, square = 0;
  for (const double r : residuals) mean += r / 4;
  for (const double r : residuals) square += (r - mean) * (r - mean) / 3;
  EXPECT_NEAR(*pools[0].error, std::sqrt(64 * (1 - 0.5) * square / 4) / decided, 1e-12);
}

TEST(PoolAccuracyTest, APoolOfWhichAPartIsNeverAskedHasNone) {
  Records records;
  records.answers.push_back(answer_to(note_of(true, 0.6, 2, 10), "a", -1));
  EXPECT_FALSE(pool_accuracy(records)[0].accuracy);
  EXPECT_EQ(pool_accuracy(records)[0].asked, 1.0);
  records.answers.push_back(answer_to(note_of(false, 0.6, 8, 10), "b", 1));
  EXPECT_TRUE(pool_accuracy(records)[0].accuracy);
}

TEST(PoolAccuracyTest, OnlyOrdinaryAnswersThatStandCount) {
  Records records;
  const auto note = note_of(false, 0.7, 4, 4);
  records.answers.push_back(answer_to(note, "a", -1));
  records.answers.push_back(answer_to(note, "b", 1));
  auto again = answer_to(note, "b", -1);  // undone and answered again
  again.provenance.supersedes = records.answers.back().id;
  records.answers.push_back(again);
  auto repeat = answer_to(note, "c", 1);
  repeat.purpose = 3;
  records.answers.push_back(repeat);
  auto skipped = answer_to(note, "d", 1);
  skipped.body = R"({"outcome":"skipped"})";
  records.answers.push_back(skipped);
  auto other = answer_to(note, "e", 1);
  other.acquisition = "by hand";
  records.answers.push_back(other);
  const auto pools = pool_accuracy(records);
  ASSERT_EQ(pools.size(), 1u);
  EXPECT_EQ(pools[0].answers, 2);
  EXPECT_EQ(pools[0].asked, 1.0);
  records.answers.push_back(answer_to(note, "a", -1, "another model"));
  EXPECT_EQ(pool_accuracy(records).size(), 2u);
}

// A model that is right about easy pairs and was asked about hard ones: the share right among the
// questions is far off, the weighted one is not, and its error is of the right size.
TEST(PoolAccuracyTest, IsUnbiasedWhereTheRuleAsksAboutHardPairs) {
  constexpr int kPool = 400, kRule = 60, kDrawn = 40, kRepeats = 300;
  std::mt19937 random(11);
  std::uniform_real_distribution<double> uniform;
  std::vector<bool> right;
  double truth = 0;
  for (int p = 0; p < kPool; ++p) {  // the first ones are coin flips
    right.push_back(uniform(random) < (p < kRule ? 0.5 : 0.9));
    truth += right.back() / static_cast<double>(kPool);
  }
  double mean = 0, square = 0, error = 0, asked = 0;
  for (int repeat = 0; repeat < kRepeats; ++repeat) {
    std::vector<int> rest;
    for (int p = kRule; p < kPool; ++p) rest.push_back(p);
    std::shuffle(rest.begin(), rest.end(), random);
    Records records;
    const auto add = [&](int pair, bool by_rule) {
      const auto note = note_of(by_rule, 0.7, by_rule ? kRule : kPool - kRule, kPool);
      records.answers.push_back(
          answer_to(note, "q" + std::to_string(pair), right[static_cast<size_t>(pair)] ? -1 : 1));
    };
    for (int p = 0; p < kRule; ++p) add(p, true);
    for (int n = 0; n < kDrawn; ++n) add(rest[static_cast<size_t>(n)], false);
    const auto pool = pool_accuracy(records).at(0);
    mean += *pool.accuracy / kRepeats;
    square += *pool.accuracy * *pool.accuracy / kRepeats;
    error += *pool.error / kRepeats;
    asked += pool.asked / kRepeats;
  }
  const double spread = std::sqrt(square - mean * mean);
  EXPECT_NEAR(mean, truth, 4 * spread / std::sqrt(kRepeats));
  EXPECT_NEAR(error, spread, 0.15 * spread);
  EXPECT_LT(asked, truth - 0.1);
}

}  // namespace
}  // namespace hone::data
