#pragma once

// PPO with a KL penalty to the reference in the reward (ALGORITHMS.md 1.3-1.5). Rollouts are
// packed; log-probabilities of rollout, old, reference and current policy come from one op.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/generation/generator.h"
#include "engine/models/causal_lm.h"
#include "engine/optim/optimizer.h"
#include "engine/packing/packed_batch.h"
#include "engine/trainers/precision.h"
#include "engine/trainers/training_context.h"
#include "reward/normalization.h"

namespace hone::engine {

struct PpoOptions {
  /// "ppo" (critic, GAE), "rloo", "grpo", "dr_grpo" (no critic; samples_per_prompt > 1).
  std::string algorithm = "ppo";
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
  /// In the reward (ppo, rloo): k1 is the exact one. In the loss (grpo, dr_grpo): k2 or k3; k1 is
  /// refused there, its expected gradient is zero (ALGORITHMS 0.6).
  std::string kl_estimator = "k1";
  /// "fixed" or "adaptive" (towards kl_target nats a text within kl_horizon episodes).
  std::string kl_controller = "fixed";
  double kl_target = 6.0;
  double kl_horizon = 10000.0;
  double gamma = 1.0, lambda = 0.95;
  double clip = 0.2;
  double clip_high = 0.0;   // 0 = clip
  double dual_clip = 0.0;   // 0 = off
  double value_clip = 0.0;  // 0 = off
  /// "last" (at EOS) or "after_last".
  std::string placement = "last";
  /// Normalised score of a text without EOS: "keep" it; "replace" it by eos_penalty (OAI, sfd);
  /// "subtract" eos_penalty >= 0 (TRL); "cap" = min(score, 0) + eos_penalty, eos_penalty <= 0.
  std::string missing_eos = "cap";
  double eos_penalty = -1.0;
  /// Whitening is ppo's; the group algorithms have their own baselines.
  bool whiten_advantages = true;
  bool whiten_unbiased = true;
  bool whiten_rewards = false;
  /// "recompute" old log-probabilities in the update's packing (first ratio exactly 1), or take the
  /// "rollout"'s: one forward pass less, the ratio starts off by the sampler's rounding.
  std::string old_logprobs = "recompute";
  /// "token_mean", "seq_mean_token_mean", "constant" (over max_new_tokens).
  std::string aggregation = "token_mean";
  OptimizerOptions actor{.lr = 3e-4, .weight_decay = 0.0, .schedule = "linear"};
  OptimizerOptions critic{.lr = 1e-3, .weight_decay = 0.0, .schedule = "linear"};

  template <class V>
  void visit(V&& v) {
    v("algorithm", algorithm, "ppo | rloo | grpo | dr_grpo");
    v("iterations", iterations, "rollout-update rounds");
    v("prompts_per_iteration", prompts_per_iteration, "prompts of one rollout");
    v("samples_per_prompt", samples_per_prompt, "samples of one prompt");
    v("epochs", epochs, "passes over one rollout");
    v("minibatches", minibatches, "optimizer steps of one pass");
    v("micro_tokens", micro_tokens, "tokens of one forward pass, 0 = as fits");
    v("precision", precision, kPrecisionHelp);
    v("max_new_tokens", max_new_tokens, "limit of a response, tokens");
    v("temperature", temperature, "the policy is softmax(logits / temperature) everywhere");
    v("kl_coef", kl_coef, "beta, weight of the reference KL in the reward");
    v("kl_estimator", kl_estimator, "k1 | k2 | k3 | abs");
    v("kl_controller", kl_controller, "fixed | adaptive");
    v("kl_target", kl_target, "nats a text, adaptive controller");
    v("kl_horizon", kl_horizon, "episodes, adaptive controller");
    v("gamma", gamma, "discount");
    v("lambda", lambda, "GAE lambda");
    v("clip", clip, "ratio clip below (and above unless clip_high)");
    v("clip_high", clip_high, "ratio clip above, 0 = clip");
    v("dual_clip", dual_clip, "dual clip constant > 1, 0 = off");
    v("value_clip", value_clip, "value clip, 0 = off");
    v("placement", placement, "last | after_last: where the score is added");
    v("missing_eos", missing_eos, "keep | replace | subtract | cap: score of texts without EOS");
    v("eos_penalty", eos_penalty, "number used by missing_eos");
    v("whiten_advantages", whiten_advantages, "mean 0, variance 1 over the rollout");
    v("whiten_unbiased", whiten_unbiased, "Bessel-corrected variance in whitening");
    v("whiten_rewards", whiten_rewards, "variance 1 of rewards, mean kept");
    v("old_logprobs", old_logprobs, "recompute | rollout");
    v("aggregation", aggregation, "token_mean | seq_mean_token_mean | constant");
    v("actor", actor, "");
    v("critic", critic, "");
  }
};

struct PpoProblem {
  CausalLM* actor = nullptr;      // trained in place
  CausalLM* reference = nullptr;  // frozen
  CausalLM* critic = nullptr;     // trained in place; null for rloo, grpo, dr_grpo
  /// Raw scores of whole texts (prompt + response tokens); a reward model or an external program.
  std::function<std::vector<float>(const std::vector<TokenIds>&)> score;
  /// The model that `score` asks, if it is one: it may then be held in parts (ranks.frozen).
  CausalLM* reward_model = nullptr;
  /// `score` may be called on rank 0 only, with all texts at once (an external program).
  bool score_alone = false;
  reward::Normalization normalization;
  std::vector<TokenIds> prompts;
  std::vector<int64_t> eos_ids;  // none: texts have no end, and none misses it
  uint64_t seed = 0;
  /// Added to every value of the critic (not trained): the scalar head has no bias, and a critic
  /// that starts as the reward model needs -mean/std of the normalisation.
  double value_offset = 0.0;
  /// Called before each iteration's rollout (0, 1, ...), e.g. to look at the policy; its time is
  /// not counted as training. May be empty.
  std::function<void(int64_t iteration)> before_iteration;
};

struct PpoResult {
  int64_t iterations = 0, tokens = 0;  // response tokens
  double seconds = 0, seconds_rollout = 0, seconds_scoring = 0, seconds_update = 0;
  /// Largest |ratio - 1| and approximate KL of the first minibatch over all updates (0 exactly).
  double first_ratio_error = 0, first_approx_kl = 0;
};

/// Trains actor and critic in place; one metrics step an iteration, stage "ppo". Throws
/// data::InputError for options that cannot be, data::Error for scores or gradients that are not
/// finite, Interrupted between minibatches (and inside the rollout) when asked to stop.
PpoResult train_ppo(PpoProblem& problem, const PpoOptions& options, const TrainingContext& context);

/// Sum over response tokens of log pi - log ref, nats a text, for given responses (0 for an empty
/// one). Averaged over samples of `policy`, it estimates KL(policy || reference).
std::vector<double> sequence_kl(CausalLM& policy, CausalLM& reference,
                                const std::vector<TokenIds>& prompts,
                                const std::vector<TokenIds>& responses, double temperature);

}  // namespace hone::engine
