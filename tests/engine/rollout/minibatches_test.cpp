#include "engine/rollout/minibatches.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <map>
#include <numeric>

#include "data/error.h"
#include "engine/packing/random_order.h"

namespace hone::engine {
namespace {

/// Texts of several lengths; every second one with a final state when asked.
Rollout make_rollout(int64_t texts, bool final_states) {
  Rollout rollout;
  std::vector<int64_t> bounds{0};
  for (int64_t i = 0; i < texts; ++i) {
    TrainingText text;
    text.prompt_tokens = 1 + i % 3;
    const int64_t response = 1 + (i * 5) % 7;
    for (int64_t t = 0; t < text.prompt_tokens + response; ++t) {
      text.tokens.push_back(static_cast<int32_t>(100 * i + t));
    }
    rollout.texts.push_back(text);
    rollout.ended.push_back(1);
    rollout.has_final.push_back(final_states && i % 2 == 0);
    bounds.push_back(bounds.back() + response + rollout.has_final.back());
  }
  rollout.offsets = bounds;
  rollout.cu_entries = at::tensor(bounds, at::kLong);
  rollout.scores = at::zeros({texts}, at::kDouble);
  return rollout;
}

std::vector<int64_t> values(const at::Tensor& t) {
  return {t.const_data_ptr<int64_t>(), t.const_data_ptr<int64_t>() + t.numel()};
}

class MinibatchesTest : public ::testing::TestWithParam<bool> {};

TEST_P(MinibatchesTest, EveryEntryOnceAndTheRightState) {
  const auto rollout = make_rollout(23, GetParam());
  const auto order = random_order(23, 5, 0);
  for (const int64_t micro : {0, 9, 25}) {
    const auto minibatches =
        make_minibatches(rollout, order, {.minibatches = 4, .micro_tokens = micro});
    ASSERT_EQ(minibatches.size(), 4u);
    std::map<int64_t, int> action_seen, state_seen;
    for (const auto& minibatch : minibatches) {
      double policy_weight = 0, value_weight = 0;
      if (micro == 0) {
        EXPECT_EQ(minibatch.size(), 1u);
      }
      for (const auto& pack : minibatch) {
        const auto tokens = values(pack.input.tokens), actions = values(pack.actions),
                   targets = values(pack.targets), entries = values(pack.entries),
                   states = values(pack.states), state_entries = values(pack.state_entries);
        if (micro > 0 && pack.input.lengths.size() > 1) {
          EXPECT_LE(tokens.size(), size_t(micro));
        }
        for (size_t k = 0; k < actions.size(); ++k) {
          // Tokens count up inside a text: the target is the state's token plus one.
          EXPECT_EQ(targets[k], tokens[size_t(actions[k])] + 1);
          ++action_seen[entries[k]];
          const auto text = size_t(targets[k] / 100);
          EXPECT_EQ(entries[k] - rollout.offsets[text],
                    targets[k] % 100 - rollout.texts[text].prompt_tokens);
        }
        for (size_t k = 0; k < states.size(); ++k) {
          ++state_seen[state_entries[k]];
          const int64_t token = tokens[size_t(states[k])];
          const auto text = size_t(token / 100);
          EXPECT_EQ(state_entries[k] - rollout.offsets[text],
                    token % 100 + 1 - rollout.texts[text].prompt_tokens);
        }
        policy_weight += pack.policy_weights.sum().item<double>();
        value_weight += pack.value_weights.sum().item<double>();
        ASSERT_EQ(pack.value_weights.numel(), pack.states.numel());
      }
      EXPECT_NEAR(policy_weight, 1.0, 1e-12);
      EXPECT_NEAR(value_weight, 1.0, 1e-12);
    }
    int64_t tokens = 0;
    for (int64_t i = 0; i < rollout.size(); ++i) tokens += rollout.response_tokens(i);
    EXPECT_EQ(static_cast<int64_t>(action_seen.size()), tokens);
    EXPECT_EQ(static_cast<int64_t>(state_seen.size()), rollout.entries());
    for (const auto& [entry, count] : action_seen) EXPECT_EQ(count, 1) << entry;
    for (const auto& [entry, count] : state_seen) EXPECT_EQ(count, 1) << entry;
  }
}

INSTANTIATE_TEST_SUITE_P(FinalStates, MinibatchesTest, ::testing::Bool());

TEST(Minibatches, AggregationsWeighAsNamed) {
  const auto rollout = make_rollout(6, false);
  std::vector<int64_t> order(6);
  std::iota(order.begin(), order.end(), 0);
  double tokens = 0;
  for (int64_t i = 0; i < 6; ++i) tokens += double(rollout.response_tokens(i));
  for (const std::string name : {"token_mean", "seq_mean_token_mean", "constant"}) {
    const auto packs = make_minibatches(rollout, order, {.aggregation = name, .max_new_tokens = 9});
    const auto& pack = packs.at(0).at(0);
    for (int64_t k = 0; k < pack.targets.numel(); ++k) {
      const double length = double(rollout.response_tokens(pack.targets[k].item<int64_t>() / 100));
      const double want = name == "token_mean" ? 1 / tokens
                          : name == "constant" ? 1 / (6.0 * 9.0)
                                               : 1 / (6.0 * length);
      EXPECT_NEAR(pack.policy_weights[k].item<double>(), want, 1e-15) << name;
    }
  }
  EXPECT_THROW(make_minibatches(rollout, order, {.aggregation = "sum"}), data::InputError);
}

}  // namespace
}  // namespace hone::engine
