#include "engine/rollout/minibatches.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>

#include <algorithm>
#include <array>
#include <span>
#include <string_view>

#include "data/error.h"
#include "kernels/aggregation.h"

namespace hone::engine {
namespace {

/// Tokens that a forward pass reads: all but the last one, which only a final state follows.
int64_t input_tokens(const Rollout& rollout, int64_t text) {
  const auto i = static_cast<size_t>(text);
  return static_cast<int64_t>(rollout.texts[i].tokens.size()) - 1 + rollout.has_final[i];
}

struct Weights {
  kernels::AggregationWeights policy;
  double per_state = 0.0;
};

Weights minibatch_weights(const Rollout& rollout, const std::vector<int64_t>& texts,
                          const MinibatchOptions& options) {
  int64_t tokens = 0, states = 0;
  for (const int64_t i : texts) {
    tokens += rollout.response_tokens(i);
    states += rollout.response_tokens(i) + rollout.has_final[static_cast<size_t>(i)];
  }
  constexpr std::array<std::string_view, 4> kKnown{"token_mean", "seq_mean_token_mean", "constant",
                                                   "seq_mean_token_sum"};
  if (std::find(kKnown.begin(), kKnown.end(), options.aggregation) == kKnown.end()) {
    throw data::InputError("ppo", "aggregation",
                           "token_mean, seq_mean_token_mean, seq_mean_token_sum or constant",
                           options.aggregation);
  }
  const kernels::AggregationCounts counts{.tokens = static_cast<double>(tokens),
                                          .sequences = static_cast<double>(texts.size()),
                                          .length = static_cast<double>(options.max_new_tokens)};
  return {kernels::aggregation_weights("ppo", options.aggregation, counts),
          1.0 / static_cast<double>(states)};
}

Pack make_pack(const Rollout& rollout, const std::vector<int64_t>& texts, const Weights& weights) {
  const auto device = rollout.cu_entries.device();
  std::vector<std::span<const int32_t>> inputs;
  int64_t actions = 0, states = 0;
  for (const int64_t i : texts) {
    inputs.emplace_back(rollout.texts[static_cast<size_t>(i)].tokens.data(),
                        static_cast<size_t>(input_tokens(rollout, i)));
    actions += rollout.response_tokens(i);
    states += rollout.response_tokens(i) + rollout.has_final[static_cast<size_t>(i)];
  }
  Pack result;
  result.input = pack(inputs, device);
  const auto ids = at::TensorOptions().dtype(at::kLong);
  const auto numbers = at::TensorOptions().dtype(at::kDouble);
  const bool finals = states > actions;
  auto action = at::empty({actions}, ids), target = at::empty({actions}, ids),
       entry = at::empty({actions}, ids), policy_weight = at::empty({actions}, numbers),
       bounds = at::empty({static_cast<int64_t>(texts.size()) + 1}, ids);
  auto state = at::empty({finals ? states : 0}, ids), state_entry = at::empty_like(state);
  auto* a = action.mutable_data_ptr<int64_t>();
  auto* y = target.mutable_data_ptr<int64_t>();
  auto* e = entry.mutable_data_ptr<int64_t>();
  auto* w = policy_weight.mutable_data_ptr<double>();
  auto* bound = bounds.mutable_data_ptr<int64_t>();
  *bound = 0;
  auto* s = state.mutable_data_ptr<int64_t>();
  auto* se = state_entry.mutable_data_ptr<int64_t>();
  int64_t start = 0;
  for (const int64_t i : texts) {
    const auto& text = rollout.texts[static_cast<size_t>(i)];
    const int64_t tokens = rollout.response_tokens(i);
    const int64_t first_entry = rollout.offsets[static_cast<size_t>(i)];
    const int64_t first_state = start + text.prompt_tokens - 1;
    const double weight =
        weights.policy.per_token +
        (tokens > 0 ? weights.policy.per_sequence / static_cast<double>(tokens) : 0.0);
    for (int64_t t = 0; t < tokens; ++t) {
      *a++ = first_state + t;
      *y++ = text.tokens[static_cast<size_t>(text.prompt_tokens + t)];
      *e++ = first_entry + t;
      *w++ = weight;
    }
    for (int64_t t = 0; finals && t < tokens + rollout.has_final[static_cast<size_t>(i)]; ++t) {
      *s++ = first_state + t;
      *se++ = first_entry + t;
    }
    bound[1] = bound[0] + tokens;
    ++bound;
    start += input_tokens(rollout, i);
  }
  result.cu_actions = bounds.to(device);
  result.actions = action.to(device);
  result.targets = target.to(device);
  result.entries = entry.to(device);
  result.states = finals ? state.to(device) : result.actions;
  result.state_entries = finals ? state_entry.to(device) : result.entries;
  const auto dtype = rollout.scores.defined() ? rollout.scores.scalar_type() : at::kFloat;
  result.policy_weights = policy_weight.to(device, dtype);
  result.value_weights = at::full({states}, weights.per_state, result.policy_weights.options());
  return result;
}

}  // namespace

std::vector<Minibatch> make_minibatches(const Rollout& rollout, const std::vector<int64_t>& order,
                                        const MinibatchOptions& options) {
  std::vector<int64_t> lengths;  // of what stands together
  for (int64_t i = 0; i < rollout.size(); ++i) {
    if (i % options.together == 0) lengths.push_back(0);
    lengths.back() += input_tokens(rollout, i);
  }
  const auto texts_of = [&](const std::vector<int64_t>& units) {
    std::vector<int64_t> texts;
    for (const int64_t unit : units) {
      for (int64_t i = 0; i < options.together; ++i) texts.push_back(unit * options.together + i);
    }
    return texts;
  };
  std::vector<Minibatch> minibatches;
  for (const auto& part : balanced_parts(order, lengths, options.minibatches)) {
    const auto weights = minibatch_weights(rollout, texts_of(part), options);
    Minibatch packs;
    const auto shards = balanced_parts(part, lengths, options.shards);
    const auto end = std::min(options.end_shard, static_cast<int64_t>(shards.size()));
    for (int64_t shard = options.first_shard; shard < end; ++shard) {
      const auto& mine = shards[static_cast<size_t>(shard)];
      for (const auto& units : fill_batches(mine, lengths, options.micro_tokens)) {
        packs.push_back(make_pack(rollout, texts_of(units), weights));
        packs.back().shard = shard;
      }
    }
    minibatches.push_back(std::move(packs));
  }
  return minibatches;
}

}  // namespace hone::engine
