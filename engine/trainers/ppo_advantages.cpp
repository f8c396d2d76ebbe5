#include "engine/trainers/ppo_advantages.h"

#include <ATen/ops/repeat_interleave.h>
#include <ATen/ops/zeros_like.h>

#include <cmath>

#include "kernels/ops.h"

namespace hone::engine {
namespace {

/// Added to the group's standard deviation; TRL 1e-4, verl 1e-6, oat 1e-8 (ALGORITHMS 44).
constexpr double kGroupEps = 1e-6;

struct Moments {
  double mean = 0, variance = 0;
};

Moments moments_of(const at::Tensor& stats) {
  const auto host = stats.cpu();
  const auto* s = host.const_data_ptr<double>();
  if (!(s[2] > 0)) return {};
  const double mean = s[0] / s[2];
  return {mean, std::max(0.0, s[1] / s[2] - mean * mean)};
}

double explained_variance(const Rollout& rollout) {
  const double total = moments_of(kernels::moments(rollout.returns, std::nullopt)).variance;
  const double rest =
      moments_of(kernels::moments(rollout.returns.sub(rollout.values), std::nullopt)).variance;
  return total > 0 ? 1.0 - rest / total : 0.0;
}

kernels::OptionalTensor mask_of(const Rollout& rollout) {
  return rollout.mask.defined() ? kernels::OptionalTensor(rollout.mask) : std::nullopt;
}

/// One number for every token: what it and the tokens after it earned, less the critic's value (0
/// without one). Returns the moments of the advantages before whitening.
Moments token_advantages(Rollout& rollout, const PpoOptions& options, double kl_coef,
                         double& reward_sum) {
  kernels::AdvantageOptions pass;
  pass.kl_coef = kl_coef;
  pass.kl_estimator = options.kl_estimator;
  pass.placement = options.placement;
  pass.gamma = options.gamma;
  pass.lambda = options.lambda;
  if (!options.has_critic()) pass.estimator = "return";
  const auto mask = mask_of(rollout);
  auto scores = rollout.scores;
  if (options.has_groups()) {
    scores = kernels::group_advantages(scores, options.samples_per_prompt, {.kind = "dr_grpo"});
  }
  auto result = kernels::advantages(rollout.old_logprobs, rollout.ref_logprobs, rollout.values,
                                    scores, rollout.cu_entries, mask, pass);
  // The groups' means are no reward that was lost.
  reward_sum =
      result.rewards.sum(at::kDouble).item<double>() +
      (options.has_groups() ? rollout.scores.sub(scores).sum(at::kDouble).item<double>() : 0.0);
  if (options.whiten_rewards) {
    const auto whitened =
        kernels::whiten(result.rewards, kernels::moments(result.rewards, std::nullopt),
                        options.whiten_unbiased, /*shift_mean=*/false);
    pass.kl_coef = 0.0;
    result = kernels::advantages(rollout.old_logprobs, rollout.ref_logprobs, rollout.values,
                                 at::zeros_like(scores), rollout.cu_entries, mask, pass,
                                 {.token_rewards = whitened});
  }
  rollout.returns = result.returns;
  rollout.advantages = options.whiten_advantages
                           ? kernels::whiten(result.advantages, result.stats,
                                             options.whiten_unbiased, /*shift_mean=*/true)
                           : result.advantages;
  return moments_of(result.stats);
}

/// One number for every text, by comparison with the other samples of its prompt.
Moments group_advantages(Rollout& rollout, const PpoOptions& options, double kl_coef,
                         double& reward_sum) {
  auto rewards = rollout.scores;
  if (!options.kl_in_loss()) {
    // The return of the first token with gamma = lambda = 1 is the whole text's reward.
    kernels::AdvantageOptions whole;
    whole.kl_coef = kl_coef;
    whole.kl_estimator = options.kl_estimator;
    whole.lambda = 1.0;
    rewards = kernels::advantages(rollout.old_logprobs, rollout.ref_logprobs, rollout.values,
                                  rollout.scores, rollout.cu_entries, std::nullopt, whole)
                  .returns.index_select(0, rollout.cu_entries.slice(0, 0, -1));
  }
  reward_sum = rewards.sum(at::kDouble).item<double>();
  const auto per_text = kernels::group_advantages(rewards, options.samples_per_prompt,
                                                  {.kind = options.algorithm, .eps = kGroupEps});
  rollout.advantages = at::repeat_interleave(per_text, rollout.cu_entries.diff(),
                                             std::optional<int64_t>(), rollout.entries());
  rollout.returns = at::zeros_like(rollout.values);
  return moments_of(kernels::moments(rollout.advantages, std::nullopt));
}

/// 1 at the tokens of a pair's better text, -1 at the other's, 0 where neither is.
Moments pair_signs(Rollout& rollout, double kl_coef, double& reward_sum) {
  reward_sum =
      rollout.scores.sum(at::kDouble).item<double>() -
      kl_coef * rollout.old_logprobs.sub(rollout.ref_logprobs).sum(at::kDouble).item<double>();
  const auto signs = kernels::group_advantages(rollout.scores, 2, {.kind = "dr_grpo"}).sign();
  rollout.advantages = at::repeat_interleave(signs, rollout.cu_entries.diff(),
                                             std::optional<int64_t>(), rollout.entries());
  rollout.returns = at::zeros_like(rollout.values);
  return moments_of(kernels::moments(rollout.advantages, std::nullopt));
}

}  // namespace

AdvantageSummary estimate_advantages(Rollout& rollout, const PpoOptions& options, double kl_coef) {
  const auto texts = static_cast<double>(rollout.size());
  AdvantageSummary summary;
  double reward_sum = 0;
  const double in_reward = options.kl_in_loss() ? 0.0 : kl_coef;
  const auto moments = options.is_pairwise() ? pair_signs(rollout, kl_coef, reward_sum)
                       : options.advantage_per_token()
                           ? token_advantages(rollout, options, in_reward, reward_sum)
                           : group_advantages(rollout, options, in_reward, reward_sum);
  summary.reward = reward_sum / texts;
  summary.kl =
      rollout.old_logprobs.sub(rollout.ref_logprobs).sum(at::kDouble).item<double>() / texts;
  summary.advantage_mean = moments.mean;
  summary.advantage_std = std::sqrt(moments.variance);
  if (options.has_critic()) summary.explained_variance = explained_variance(rollout);
  return summary;
}

}  // namespace hone::engine
