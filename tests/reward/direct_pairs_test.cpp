// What direct methods are given of stored comparisons: wins by hand.

#include "reward/direct_pairs.h"

#include <gtest/gtest.h>

#include <map>

#include "tests/reward/random_records.h"

namespace hone::reward {
namespace {

using Wins = std::map<std::pair<int64_t, int64_t>, std::pair<double, double>>;

class DirectPairsTest : public ::testing::Test {
 protected:
  DirectPairsTest() {
    for (int i = 0; i < 3; ++i) test::add_item(records_, "prompt");
    test::add_item(records_, "unseen", data::Split::kTest);
    test::add_item(records_, "unseen", data::Split::kTest);
    test::add_comparison(records_, {0, 1}, {0, 1}, "anne");  // 0 wins
    test::add_comparison(records_, {1, 0}, {1, 0}, "ben");   // 0 wins, shown the other way round
    test::add_comparison(records_, {0, 1}, {1, 0}, "cleo");  // 1 wins
    test::add_comparison(records_, {0, 1}, {0, 0}, "dora");  // a tie
    test::add_comparison(records_, {2, 1, 0}, {0, 1, 1}, "eve");  // 2 beats both, which tie
    test::add_comparison(records_, {3, 4}, {1, 0}, "anne");       // of the test split
    test::add_comparison(records_, {0, 2}, {}, "finn").outcome = data::Outcome::kSkipped;
  }

  Wins wins(const DirectPairOptions& options, int64_t judgements, int64_t ties) const {
    const auto made = direct_pairs(records_, options);
    EXPECT_EQ(made.judgements, judgements);
    EXPECT_EQ(made.ties, ties);
    Wins wins;
    for (const auto& pair : made.pairs) {
      wins[{pair.first, pair.second}] = {pair.first_wins, pair.second_wins};
    }
    EXPECT_EQ(wins.size(), made.pairs.size());
    return wins;
  }

  data::Records records_;
};

TEST_F(DirectPairsTest, EveryJudgementCounts) {
  EXPECT_EQ(wins({}, 7, 2), (Wins{{{0, 1}, {2, 1}}, {{0, 2}, {0, 1}}, {{1, 2}, {0, 1}}}));
}

TEST_F(DirectPairsTest, TiesAreHalfAWinOfEachWhereAskedFor) {
  EXPECT_EQ(wins({.half_ties = true}, 7, 2),
            (Wins{{{0, 1}, {3, 2}}, {{0, 2}, {0, 1}}, {{1, 2}, {0, 1}}}));
}

TEST_F(DirectPairsTest, AMajorityIsOnePairAndAnEvenSplitNone) {
  EXPECT_EQ(wins({.majority = true}, 7, 2),
            (Wins{{{0, 1}, {1, 0}}, {{0, 2}, {0, 1}}, {{1, 2}, {0, 1}}}));
  test::add_comparison(records_, {0, 1}, {1, 0}, "gus");
  EXPECT_FALSE(wins({.majority = true}, 8, 2).contains({0, 1}));
  EXPECT_EQ(wins({.majority = true, .half_ties = true}, 8, 2).at({0, 1}),
            (std::pair<double, double>{0.5, 0.5}));
}

TEST_F(DirectPairsTest, OneSplitAlone) {
  EXPECT_EQ(wins({.split = data::Split::kTest}, 1, 0), (Wins{{{3, 4}, {0, 1}}}));
  EXPECT_TRUE(wins({.split = data::Split::kValidation}, 0, 0).empty());
}

}  // namespace
}  // namespace hone::reward
