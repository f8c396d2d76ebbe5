#include "engine/packing/packed_batch.h"

#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "data/error.h"
#include "engine/packing/random_order.h"

namespace hone::engine {
namespace {

std::vector<int64_t> values(const at::Tensor& t) {
  const auto c = t.contiguous();
  return {c.const_data_ptr<int64_t>(), c.const_data_ptr<int64_t>() + c.numel()};
}

std::vector<int64_t> lengths_of(size_t n, uint64_t seed, int64_t longest) {
  std::vector<int64_t> lengths;
  for (size_t i = 0; i < n; ++i) {
    lengths.push_back(1 + static_cast<int64_t>(mix_seed(seed, i) % static_cast<uint64_t>(longest)));
  }
  return lengths;
}

int64_t tokens_of(const std::vector<int64_t>& part, const std::vector<int64_t>& lengths) {
  int64_t sum = 0;
  for (const int64_t i : part) sum += lengths[static_cast<size_t>(i)];
  return sum;
}

TEST(Pack, ConcatenatesAndCounts) {
  const TokenIds a{5, 6, 7}, b{8}, c{9, 10};
  const auto packed = pack({a, b, c});
  EXPECT_EQ(values(packed.tokens), (std::vector<int64_t>{5, 6, 7, 8, 9, 10}));
  EXPECT_EQ(values(packed.cu_seqlens), (std::vector<int64_t>{0, 3, 4, 6}));
  EXPECT_EQ(packed.lengths, (std::vector<int64_t>{3, 1, 2}));
}

TEST(Pack, RefusesAnEmptySequence) {
  const TokenIds a{5}, none;
  EXPECT_THROW(pack({a, none}), data::InputError);
}

TEST(NextTokenBatch, PredictsResponseTokensOnly) {
  // Prompt 5 6, response 7 8: positions of 6 and 7 predict. Without prompt every token after the
  // first is predicted. A prompt as long as the text predicts nothing.
  const TrainingText with_prompt{{5, 6, 7, 8}, 2}, without{{3, 4, 2}, 0}, all_prompt{{9, 9}, 2};
  const auto batch = next_token_batch({&with_prompt, &without, &all_prompt});
  EXPECT_EQ(values(batch.input.tokens), (std::vector<int64_t>{5, 6, 7, 3, 4, 9}));
  EXPECT_EQ(values(batch.input.cu_seqlens), (std::vector<int64_t>{0, 3, 5, 6}));
  EXPECT_EQ(values(batch.predict), (std::vector<int64_t>{1, 2, 3, 4}));
  EXPECT_EQ(values(batch.targets), (std::vector<int64_t>{7, 8, 4, 2}));
}

TEST(NextTokenBatch, RefusesAOneTokenText) {
  const TrainingText lonely{{5}, 0};
  EXPECT_THROW(next_token_batch({&lonely}), data::InputError);
}

TEST(TokenBatches, EveryIndexOnceWithinTheLimit) {
  const auto lengths = lengths_of(500, 1, 60);
  for (const int64_t limit : {1, 59, 60, 512, 1 << 20}) {
    const auto batches = token_batches(lengths, limit, 7, 0);
    std::vector<int64_t> seen;
    for (const auto& batch : batches) {
      ASSERT_FALSE(batch.empty());
      if (batch.size() > 1) {
        EXPECT_LE(tokens_of(batch, lengths), limit);
      }
      seen.insert(seen.end(), batch.begin(), batch.end());
    }
    std::sort(seen.begin(), seen.end());
    std::vector<int64_t> all(lengths.size());
    std::iota(all.begin(), all.end(), 0);
    EXPECT_EQ(seen, all) << "limit " << limit;
  }
}

TEST(TokenBatches, NearlyFullAndSeeded) {
  const auto lengths = lengths_of(2000, 2, 40);
  const auto batches = token_batches(lengths, 1536, 7, 3);
  for (size_t b = 0; b + 1 < batches.size(); ++b) {
    EXPECT_GT(tokens_of(batches[b], lengths), 1536 - 40);
  }
  EXPECT_EQ(batches, token_batches(lengths, 1536, 7, 3));
  EXPECT_NE(batches, token_batches(lengths, 1536, 7, 4));
  EXPECT_NE(batches, token_batches(lengths, 1536, 8, 3));
}

TEST(BalancedParts, NearEvenAndInOrder) {
  const auto lengths = lengths_of(256, 3, 40);
  const auto order = random_order(256, 11, 0);
  for (const int64_t parts : {1, 2, 4, 7, 256}) {
    const auto result = balanced_parts(order, lengths, parts);
    ASSERT_EQ(static_cast<int64_t>(result.size()), parts);
    std::vector<int64_t> joined;
    const int64_t total = tokens_of(order, lengths);
    for (const auto& part : result) {
      EXPECT_FALSE(part.empty());
      EXPECT_LE(std::abs(tokens_of(part, lengths) - total / parts), 40);
      joined.insert(joined.end(), part.begin(), part.end());
    }
    EXPECT_EQ(joined, order);
  }
}

TEST(BalancedParts, GiantsAndShortageLeaveNoPartEmpty) {
  const std::vector<int64_t> lengths{1, 1000, 1, 1, 1};
  const std::vector<int64_t> order{0, 1, 2, 3, 4};
  for (const int64_t parts : {2, 3, 4, 5}) {
    for (const auto& part : balanced_parts(order, lengths, parts)) EXPECT_FALSE(part.empty());
  }
  EXPECT_EQ(balanced_parts({1, 0}, lengths, 4).size(), 2u);
  EXPECT_THROW(balanced_parts(order, lengths, 0), data::InputError);
}

TEST(RandomOrder, IsAnUnbiasedPermutation) {
  // Where does element 0 land? Chi-square over 5 places, 20,000 draws: 18.5 is the 0.1 % point.
  std::vector<double> counts(5, 0.0);
  for (uint64_t stream = 0; stream < 20000; ++stream) {
    const auto order = random_order(5, 42, stream);
    ASSERT_EQ(std::set<int64_t>(order.begin(), order.end()).size(), 5u);
    counts[static_cast<size_t>(std::find(order.begin(), order.end(), 0) - order.begin())] += 1;
  }
  double chi2 = 0;
  for (const double count : counts) chi2 += (count - 4000) * (count - 4000) / 4000;
  EXPECT_LT(chi2, 18.5);
}

}  // namespace
}  // namespace hone::engine
