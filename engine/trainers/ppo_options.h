#pragma once

// The options of online training, and what they mean to the policy loss.

#include <cstdint>
#include <string>

#include "engine/optim/optimizer.h"
#include "engine/trainers/precision.h"
#include "kernels/loss_ops.h"

namespace hone::engine {

struct PpoOptions {
  /// Where advantages come from. "ppo": critic, GAE. Without a critic, against the other samples of
  /// the prompt (samples_per_prompt > 1): "rloo", "grpo", "dr_grpo", one number a text.
  /// "reinforce_pp": the rewards still to come at every token, whitened over all tokens of the
  /// rollout; its
  /// "_baseline" takes the mean score of the prompt's samples off first (Hu 2025).
  /// "online_dpo" (Guo et al. 2024) has no advantages: of two samples of a prompt the one with the
  /// higher score is chosen, and kl_coef is DPO's beta.
  std::string algorithm = "ppo";
  /// What an advantage multiplies: kernels::PolicyLossOptions::kind. "ppo": clipped ratio of
  /// tokens. Of sequences: "rloo" (product of the tokens' ratios, TRL's RLOO), "gspo" (their
  /// geometric mean), "gspo_token". "cispo", "sapo"; "reinforce" has no ratio.
  std::string policy_loss = "ppo";
  int64_t iterations = 40;
  int64_t prompts_per_iteration = 256;
  int64_t samples_per_prompt = 1;
  int64_t epochs = 1;
  int64_t minibatches = 4;
  /// Tokens of one forward inside a minibatch; 0 = all, on the CPU as many as its cache holds.
  int64_t micro_tokens = 0;
  /// "float32", or "bf16": matrix products in bfloat16 over float32 parameters (CPU).
  std::string precision = "float32";
  int64_t max_new_tokens = 40;
  double temperature = 0.7;  // part of the policy: sampling, old, new and reference alike
  double kl_coef = 0.2;
  /// Where the KL is: "reward" or "loss"; "auto" as published, in the loss with grpo, dr_grpo and
  /// reinforce_pp_baseline.
  std::string kl_place = "auto";
  /// In the reward k1 is the exact one. In the loss k2 or k3, token by token; k1 is refused there,
  /// its expected gradient is zero (ALGORITHMS 0.6).
  std::string kl_estimator = "k1";
  /// "fixed" or "adaptive" (towards kl_target nats a text within kl_horizon episodes).
  std::string kl_controller = "fixed";
  double kl_target = 6.0;
  double kl_horizon = 10000.0;
  double gamma = 1.0, lambda = 0.95;
  /// 0 = as published: ppo and rloo .2; gspo 3e-4 below and 4e-4 above; cispo 1 (none) below and 4
  /// above. The others have none.
  double clip = 0.0;
  double clip_high = 0.0;     // 0 = as published where clip = 0, else clip
  double dual_clip = 0.0;     // ppo's and the sequences' clipped ratios; 0 = off
  double tau_positive = 1.0;  // sapo: sharpness of the gate where the advantage is positive
  double tau_negative = 1.05;
  double value_clip = 0.0;  // 0 = off
  /// "last" (at EOS) or "after_last".
  std::string placement = "last";
  /// Normalised score of a text without EOS: "keep" it; "replace" it by eos_penalty (OAI, sfd);
  /// "subtract" eos_penalty >= 0 (TRL); "cap" = min(score, 0) + eos_penalty, eos_penalty <= 0.
  std::string missing_eos = "cap";
  double eos_penalty = -1.0;
  /// Soft punishment of long texts (DAPO): 0 up to max_new_tokens - overlong_tokens, falling to
  /// -overlong_penalty at max_new_tokens, added to the normalised score. 0 = off.
  int64_t overlong_tokens = 0;
  double overlong_penalty = 1.0;
  /// Dynamic sampling (DAPO): prompts whose samples all have one raw score teach nothing by
  /// comparison; others are sampled in their place, in at most so many rounds. 0 = off.
  int64_t sampling_rounds = 0;
  /// Whitening is ppo's and reinforce_pp's; the group algorithms have their own baselines.
  bool whiten_advantages = true;
  bool whiten_unbiased = true;
  bool whiten_rewards = false;
  /// "recompute" old log-probabilities in the update's packing (first ratio exactly 1), or take the
  /// "rollout"'s: one forward pass less, the ratio starts off by the sampler's rounding.
  std::string old_logprobs = "recompute";
  /// What becomes of the weight exp(old - sampler's log-probability) with "recompute":
  /// kernels::PolicyLossOptions::behaviour, or "none".
  std::string sampler_weight = "none";
  double sampler_weight_low = 0.0, sampler_weight_high = 2.0;
  /// "token_mean", "seq_mean_token_mean", "constant" (over max_new_tokens).
  std::string aggregation = "token_mean";
  OptimizerOptions actor{.lr = 3e-4, .weight_decay = 0.0, .schedule = "linear"};
  OptimizerOptions critic{.lr = 1e-3, .weight_decay = 0.0, .schedule = "linear"};

  template <class V>
  void visit(V&& v) {
    v("algorithm", algorithm,
      "advantages: ppo (critic) | rloo | grpo | dr_grpo | reinforce_pp | reinforce_pp_baseline; "
      "online_dpo");
    v("policy_loss", policy_loss,
      "ppo | gspo | gspo_token | cispo | sapo | rloo (ratio of the whole text) | reinforce");
    v("iterations", iterations, "rollout-update rounds");
    v("prompts_per_iteration", prompts_per_iteration, "prompts of one rollout");
    v("samples_per_prompt", samples_per_prompt, "samples of one prompt");
    v("epochs", epochs, "passes over one rollout");
    v("minibatches", minibatches, "optimizer steps of one pass");
    v("micro_tokens", micro_tokens, "tokens of one forward pass, 0 = as fits");
    v("precision", precision, kPrecisionHelp);
    v("max_new_tokens", max_new_tokens, "limit of a response, tokens");
    v("temperature", temperature, "the policy is softmax(logits / temperature) everywhere");
    v("kl_coef", kl_coef, "beta, weight of the reference KL");
    v("kl_place", kl_place,
      "reward | loss | auto (loss with grpo, dr_grpo, reinforce_pp_baseline)");
    v("kl_estimator", kl_estimator, "k1 | k2 | k3 | abs; in the loss k2 | k3");
    v("kl_controller", kl_controller, "fixed | adaptive");
    v("kl_target", kl_target, "nats a text, adaptive controller");
    v("kl_horizon", kl_horizon, "episodes, adaptive controller");
    v("gamma", gamma, "discount");
    v("lambda", lambda, "GAE lambda");
    v("clip", clip,
      "ratio clip below (and above unless clip_high); 0 = as published: ppo .2, gspo .0003 and "
      ".0004, cispo 1 and 4");
    v("clip_high", clip_high, "ratio clip above, 0 = clip; DAPO .28");
    v("dual_clip", dual_clip, "dual clip constant > 1, 0 = off");
    v("tau_positive", tau_positive, "sapo: sharpness of its gate where the advantage is positive");
    v("tau_negative", tau_negative, "sapo: and where it is not");
    v("value_clip", value_clip, "value clip, 0 = off");
    v("placement", placement, "last | after_last: where the score is added");
    v("missing_eos", missing_eos, "keep | replace | subtract | cap: score of texts without EOS");
    v("eos_penalty", eos_penalty, "number used by missing_eos");
    v("overlong_tokens", overlong_tokens,
      "last tokens before max_new_tokens that cost linearly (DAPO), 0 = off");
    v("overlong_penalty", overlong_penalty, "what a text of max_new_tokens then loses");
    v("sampling_rounds", sampling_rounds,
      "rounds of sampling until every prompt's samples differ in score (DAPO), 0 = off");
    v("whiten_advantages", whiten_advantages, "mean 0, variance 1 over the rollout");
    v("whiten_unbiased", whiten_unbiased, "Bessel-corrected variance in whitening");
    v("whiten_rewards", whiten_rewards, "variance 1 of rewards, mean kept");
    v("old_logprobs", old_logprobs, "recompute | rollout");
    v("sampler_weight", sampler_weight,
      "none | token_truncate | token_mask | sequence_truncate | sequence_mask: weight of old over "
      "sampler's probability");
    v("sampler_weight_low", sampler_weight_low, "held or masked below");
    v("sampler_weight_high", sampler_weight_high, "held or masked above");
    v("aggregation", aggregation, "token_mean | seq_mean_token_mean | constant");
    v("actor", actor, "");
    v("critic", critic, "");
  }

  bool has_critic() const { return algorithm == "ppo"; }
  bool is_pairwise() const { return algorithm == "online_dpo"; }
  /// Advantages compare the samples of one prompt.
  bool has_groups() const {
    return algorithm == "rloo" || algorithm == "grpo" || algorithm == "dr_grpo" ||
           algorithm == "reinforce_pp_baseline" || is_pairwise();
  }
  /// Else one number a text.
  bool advantage_per_token() const { return !has_groups() || algorithm == "reinforce_pp_baseline"; }
  bool kl_in_loss() const {
    return kl_place == "loss" ||
           (kl_place == "auto" && has_groups() && algorithm != "rloo" && !is_pairwise());
  }
};

/// The loss of an update whose KL has this weight, every default filled in.
kernels::PolicyLossOptions policy_loss_options(const PpoOptions& options, double kl_coef);

/// Whether a token's loss depends on others of its text.
bool needs_sequences(const kernels::PolicyLossOptions& loss);

}  // namespace hone::engine
