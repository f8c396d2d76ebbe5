#include "engine/trainers/ppo_update.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>

#include <algorithm>
#include <optional>

#include "engine/trainers/ppo_options.h"

namespace hone::engine {
namespace {

at::Tensor hidden_at(CausalLM& model, const Pack& pack, const at::Tensor& positions) {
  return model.hidden(pack.input.tokens, pack.input.cu_seqlens, positions);
}

/// Without a graph; with it also in `kept`, if that is given.
at::Tensor scored_hidden(CausalLM& model, const Pack& pack, const at::Tensor& positions,
                         at::Tensor* kept) {
  const at::AutoGradMode graph(kept != nullptr);
  const at::Tensor hidden = hidden_at(model, pack, positions);
  if (kept) *kept = hidden;
  return hidden.detach();
}

at::Tensor actor_hidden(CausalLM& actor, const Pack& pack) {
  return pack.actor_hidden.defined() ? pack.actor_hidden : hidden_at(actor, pack, pack.actions);
}
at::Tensor critic_hidden(CausalLM& critic, const Pack& pack) {
  return pack.critic_hidden.defined() ? pack.critic_hidden : hidden_at(critic, pack, pack.states);
}

}  // namespace

void score_policy(CausalLM& policy, const Pack& pack, double temperature, at::Tensor& logprobs,
                  at::Tensor& entropy, at::Tensor* kept) {
  const auto hidden = scored_hidden(policy, pack, pack.actions, kept);
  const at::NoGradGuard no_grad;
  const auto scored = kernels::token_logprobs(hidden, policy.lm_head(), pack.targets, temperature);
  logprobs.index_copy_(0, pack.entries, scored.logprobs);
  if (entropy.defined()) entropy.index_copy_(0, pack.entries, scored.entropy);
}

void score_values(CausalLM& critic, double offset, const Pack& pack, at::Tensor& values,
                  at::Tensor* kept) {
  const auto hidden = scored_hidden(critic, pack, pack.states, kept);
  const at::NoGradGuard no_grad;
  values.index_copy_(0, pack.state_entries,
                     hidden.mv(critic.scalar_head().select(0, 0)).add(offset));
}

void PolicyUpdate::append_to(std::vector<double>& numbers) const {
  numbers.insert(numbers.end(), {loss, clip_fraction, approx_kl, ratio_error, entropy, mismatch, kl,
                                 held, margin, static_cast<double>(tokens)});
}

PolicyUpdate PolicyUpdate::combined(const std::vector<double>& numbers) {
  constexpr size_t kNumbers = 10, kTokens = kNumbers - 1;
  PolicyUpdate all;
  double tokens = 0;
  for (size_t i = 0; i < numbers.size(); i += kNumbers) tokens += numbers[i + kTokens];
  for (size_t i = 0; i < numbers.size(); i += kNumbers) {
    const double* shard = numbers.data() + i;
    // A lone shard's share is exactly 1. Losses and fractions carry the whole minibatch's weights.
    const double share = tokens > 0 ? shard[kTokens] / tokens : 1.0;
    all.loss += shard[0];
    all.clip_fraction += shard[1];
    all.approx_kl += shard[2];
    all.ratio_error = std::max(all.ratio_error, shard[3]);
    all.entropy += shard[4] * share;
    all.mismatch += shard[5] * share;
    all.kl += shard[6];
    all.held += shard[7];
    all.margin += shard[8];
  }
  all.tokens = static_cast<int64_t>(tokens);
  return all;
}

namespace {

/// DPO of a pack's pairs (Rafailov et al. 2023, eq. 7), texts 2i and 2i + 1 each; the sign of the
/// advantages says which one is the better, 0 is no pair. policy_weights are 1 / texts.
kernels::HeadPolicyLoss pair_loss(CausalLM& actor, const Rollout& rollout, const Pack& pack,
                                  double temperature, double beta, double& margin) {
  const auto of_pack = [&](const at::Tensor& x) { return x.index_select(0, pack.entries); };
  const auto scored = kernels::token_logprobs(actor_hidden(actor, pack), actor.lm_head(),
                                              pack.targets, temperature);
  // Sums over texts as a product with their indicators [texts, tokens]: one order on any device.
  const auto tokens = at::arange(pack.targets.numel(), pack.targets.options()).unsqueeze(0);
  const auto begin = pack.cu_actions.slice(0, 0, -1).unsqueeze(1),
             end = pack.cu_actions.slice(0, 1).unsqueeze(1);
  const auto inside = tokens.ge(begin).logical_and(tokens.lt(end)).to(at::kDouble);
  const auto sums = [&](const at::Tensor& x) { return inside.mv(x.to(at::kDouble)).view({-1, 2}); };
  const auto now = sums(scored.logprobs), reference = sums(of_pack(rollout.ref_logprobs));
  const auto first = pack.cu_actions.slice(0, 0, -1).view({-1, 2}).select(1, 0);
  const auto sign = of_pack(rollout.advantages).index_select(0, first);
  const auto chosen = sign.lt(0).to(at::kLong).unsqueeze(1);  // column of the better text
  const auto pick = [](const at::Tensor& x, const at::Tensor& column) {
    return x.gather(1, column).squeeze(1);
  };
  kernels::DirectPairs pairs;
  pairs.logp_chosen = pick(now, chosen);
  pairs.logp_rejected = pick(now, 1 - chosen);
  pairs.ref_chosen = pick(reference, chosen);
  pairs.ref_rejected = pick(reference, 1 - chosen);
  const auto weights =
      pack.policy_weights.index_select(0, first).to(at::kDouble) * 2 * sign.ne(0).to(at::kDouble);
  kernels::DirectLossOptions options;
  options.beta = beta;
  const auto loss = kernels::direct_loss(pairs, weights, options);
  margin = loss.metrics.cpu()[1].item<double>();
  const auto detached = scored.logprobs.detach();
  auto metrics =
      kernels::policy_loss(detached, of_pack(rollout.old_logprobs), of_pack(rollout.advantages),
                           std::nullopt, pack.policy_weights, {})
          .metrics;
  metrics.select(0, 0).zero_();  // nothing is clipped
  return {loss.loss, metrics, detached, scored.entropy.detach()};
}

/// Loss and gradient graph of one pack: the head's op where tokens stand alone.
kernels::HeadPolicyLoss pack_loss(CausalLM& actor, const Rollout& rollout, const Pack& pack,
                                  const PolicyObjective& objective) {
  const auto of_pack = [&](const at::Tensor& x) { return x.index_select(0, pack.entries); };
  std::optional<at::Tensor> reference, sampler;
  if (objective.loss.kl_coef != 0) reference = of_pack(rollout.ref_logprobs);
  if (objective.weighs_sampler) sampler = of_pack(rollout.behaviour_logprobs);
  const auto hidden = actor_hidden(actor, pack);
  const auto old = of_pack(rollout.old_logprobs), advantages = of_pack(rollout.advantages);
  if (!needs_sequences(objective.loss)) {
    return kernels::head_policy_loss(hidden, actor.lm_head(), pack.targets, old, advantages,
                                     reference, pack.policy_weights, objective.temperature,
                                     objective.loss, std::nullopt, sampler);
  }
  const auto scored =
      kernels::token_logprobs(hidden, actor.lm_head(), pack.targets, objective.temperature);
  const auto loss =
      kernels::policy_loss(scored.logprobs, old, advantages, reference, pack.policy_weights,
                           objective.loss, pack.cu_actions, sampler);
  return {loss.loss, loss.metrics, scored.logprobs.detach(), scored.entropy.detach()};
}

}  // namespace

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
    double margin = 0;
    const auto result =
        objective.pair_beta > 0
            ? pair_loss(actor, rollout, pack, objective.temperature, objective.pair_beta, margin)
            : pack_loss(actor, rollout, pack, objective);
    update.margin += margin;
    if (before_last && &pack == &minibatch.back()) before_last();
    result.loss.backward();
    const auto metrics = result.metrics.cpu();
    const auto* metric = metrics.const_data_ptr<double>();
    update.loss += result.loss.item<double>();
    update.clip_fraction += metric[0];
    update.approx_kl += metric[1];
    update.ratio_error = std::max(update.ratio_error, metric[4]);
    update.entropy += result.entropy.sum(at::kDouble).item<double>();
    update.kl += metric[6];
    update.held += metric[9];
    update.mismatch += result.logprobs.sub(rollout.behaviour_logprobs.index_select(0, pack.entries))
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
    const auto values =
        critic_hidden(critic, pack).mv(critic.scalar_head().select(0, 0)).add(offset);
    const auto result = kernels::value_loss(values, of_pack(rollout.values),
                                            of_pack(rollout.returns), pack.value_weights, clip);
    if (before_last && &pack == &minibatch.back()) before_last();
    result.loss.backward();
    loss += result.loss.item<double>();
  }
  return loss;
}

}  // namespace hone::engine
