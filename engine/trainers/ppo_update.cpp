#include "engine/trainers/ppo_update.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <optional>

namespace hone::engine {
namespace {

at::Tensor hidden_at(CausalLM& model, const PackedTokens& input, const at::Tensor& positions) {
  return model.hidden(input.tokens, input.cu_seqlens).index_select(0, positions);
}

}  // namespace

void score_policy(CausalLM& policy, const Pack& pack, double temperature, at::Tensor& logprobs,
                  at::Tensor& entropy) {
  const at::NoGradGuard no_grad;
  const auto scored = kernels::token_logprobs(hidden_at(policy, pack.input, pack.actions),
                                              policy.lm_head(), pack.targets, temperature);
  logprobs.index_copy_(0, pack.entries, scored.logprobs);
  if (entropy.defined()) entropy.index_copy_(0, pack.entries, scored.entropy);
}

void score_values(CausalLM& critic, double offset, const Pack& pack, at::Tensor& values) {
  const at::NoGradGuard no_grad;
  const auto hidden = hidden_at(critic, pack.input, pack.states);
  values.index_copy_(0, pack.state_entries,
                     hidden.mv(critic.scalar_head().select(0, 0)).add(offset));
}

void PolicyUpdate::append_to(std::vector<double>& numbers) const {
  numbers.insert(numbers.end(), {loss, clip_fraction, approx_kl, ratio_error, entropy, mismatch,
                                 static_cast<double>(tokens)});
}

PolicyUpdate PolicyUpdate::combined(const std::vector<double>& numbers) {
  constexpr size_t kNumbers = 7;
  PolicyUpdate all;
  double tokens = 0;
  for (size_t i = 0; i < numbers.size(); i += kNumbers) tokens += numbers[i + 6];
  for (size_t i = 0; i < numbers.size(); i += kNumbers) {
    const double* shard = numbers.data() + i;
    // A lone shard's share is exactly 1. Losses and fractions carry the whole minibatch's weights.
    const double share = tokens > 0 ? shard[6] / tokens : 1.0;
    all.loss += shard[0];
    all.clip_fraction += shard[1];
    all.approx_kl += shard[2];
    all.ratio_error = std::max(all.ratio_error, shard[3]);
    all.entropy += shard[4] * share;
    all.mismatch += shard[5] * share;
  }
  all.tokens = static_cast<int64_t>(tokens);
  return all;
}

Minibatch packs_of_shard(const Minibatch& minibatch, int64_t shard) {
  Minibatch packs;
  for (const auto& pack : minibatch) {
    if (pack.shard == shard) packs.push_back(pack);
  }
  return packs;
}

PolicyUpdate accumulate_policy_gradients(CausalLM& actor, const Rollout& rollout,
                                         const Minibatch& minibatch,
                                         const PolicyObjective& objective,
                                         const std::function<void()>& before_last) {
  PolicyUpdate update;
  for (const auto& pack : minibatch) {
    const auto of_pack = [&](const at::Tensor& x) { return x.index_select(0, pack.entries); };
    std::optional<at::Tensor> reference;
    if (objective.loss.kl_coef != 0) reference = of_pack(rollout.ref_logprobs);
    const auto result = kernels::head_policy_loss(
        hidden_at(actor, pack.input, pack.actions), actor.lm_head(), pack.targets,
        of_pack(rollout.old_logprobs), of_pack(rollout.advantages), reference, pack.policy_weights,
        objective.temperature, objective.loss);
    if (before_last && &pack == &minibatch.back()) before_last();
    result.loss.backward();
    const auto metrics = result.metrics.cpu();
    const auto* metric = metrics.const_data_ptr<double>();
    update.loss += result.loss.item<double>();
    update.clip_fraction += metric[0];
    update.approx_kl += metric[1];
    update.ratio_error = std::max(update.ratio_error, metric[4]);
    update.entropy += result.entropy.sum(at::kDouble).item<double>();
    update.mismatch += result.logprobs.sub(of_pack(rollout.behaviour_logprobs))
                           .abs()
                           .sum(at::kDouble)
                           .item<double>();
    update.tokens += pack.targets.numel();
  }
  update.entropy /= static_cast<double>(std::max<int64_t>(1, update.tokens));
  update.mismatch /= static_cast<double>(std::max<int64_t>(1, update.tokens));
  return update;
}

double accumulate_value_gradients(CausalLM& critic, double offset, const Rollout& rollout,
                                  const Minibatch& minibatch, double clip,
                                  const std::function<void()>& before_last) {
  double loss = 0;
  for (const auto& pack : minibatch) {
    const auto of_pack = [&](const at::Tensor& x) { return x.index_select(0, pack.state_entries); };
    const auto values = hidden_at(critic, pack.input, pack.states)
                            .mv(critic.scalar_head().select(0, 0))
                            .add(offset);
    const auto result = kernels::value_loss(values, of_pack(rollout.values),
                                            of_pack(rollout.returns), pack.value_weights, clip);
    if (before_last && &pack == &minibatch.back()) before_last();
    result.loss.backward();
    loss += result.loss.item<double>();
  }
  return loss;
}

}  // namespace hone::engine
