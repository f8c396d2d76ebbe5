#include "engine/rollout/response.h"

#include <gtest/gtest.h>

#include <vector>

#include "data/error.h"

namespace hone::engine {
namespace {

TEST(TruncatedLength, FollowsTheGoldenVectors) {
  // shared/golden: trunc/in, trunc/first_true_eos (2, none, 0), trunc/response_mask
  const std::vector<std::vector<int32_t>> in{
      {5, 7, 2, 9, 2, 3}, {4, 4, 4, 4, 4, 4}, {2, 1, 1, 1, 1, 1}};
  const std::vector<int64_t> eos{2};
  EXPECT_EQ(truncated_length(in[0], eos), 3);
  EXPECT_EQ(truncated_length(in[1], eos), 6);
  EXPECT_EQ(truncated_length(in[2], eos), 1);
  EXPECT_EQ(truncated_length(in[0], {}), 6);
  EXPECT_EQ(truncated_length({}, eos), 0);
}

TEST(TruncatedLength, EndsAtTheFirstOfSeveralEnds) {
  const std::vector<int32_t> text{5, 7, 9, 2, 3};
  EXPECT_EQ(truncated_length(text, std::vector<int64_t>{2, 9}), 3);
  EXPECT_EQ(truncated_length(text, std::vector<int64_t>{3, 2}), 4);
  EXPECT_EQ(truncated_length(text, std::vector<int64_t>{1, 4}), 5);
}

TEST(MissingEos, EachRule) {
  EXPECT_EQ(missing_eos_score(0.7, parse_missing_eos("keep", -1), -1), 0.7);
  EXPECT_EQ(missing_eos_score(0.7, parse_missing_eos("replace", -1), -1), -1.0);
  EXPECT_EQ(missing_eos_score(3.0, parse_missing_eos("subtract", 1), 1), 2.0);
  EXPECT_EQ(missing_eos_score(0.5, parse_missing_eos("cap", -1), -1), -1.0);
  EXPECT_EQ(missing_eos_score(-0.5, parse_missing_eos("cap", -1), -1), -1.5);
}

TEST(MissingEos, RefusesUnknownRulesAndBonuses) {
  EXPECT_THROW(parse_missing_eos("drop", -1), data::InputError);
  EXPECT_THROW(parse_missing_eos("subtract", -1), data::InputError);
  EXPECT_THROW(parse_missing_eos("cap", 1), data::InputError);
}

}  // namespace
}  // namespace hone::engine
