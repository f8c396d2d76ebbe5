#include "engine/trainers/ppo_validation.h"

#include <string>

#include "engine/rollout/response.h"
#include "engine/trainers/option_checks.h"

namespace hone::engine {
namespace {

bool clips_a_ratio(const PpoOptions& o) {
  return o.policy_loss == "ppo" || o.policy_loss == "rloo" || o.policy_loss.rfind("gspo", 0) == 0;
}

/// Options that say nothing, or something wrong, beside others.
void check_together(const PpoOptions& o, const OptionChecks& require) {
  const std::string with_loss = " with policy_loss = " + o.policy_loss;
  const std::string with_algorithm = " with algorithm = " + o.algorithm;
  // The expected gradient of k1 in the loss is zero: no regularisation at all (ALGORITHMS 0.6).
  require(!o.kl_in_loss() || o.kl_coef == 0 || o.kl_estimator == "k2" || o.kl_estimator == "k3",
          "kl_estimator",
          "k2 or k3 where the KL is part of the loss (algorithm = " + o.algorithm +
              ", kl_place = " + o.kl_place + "), or kl_coef = 0",
          o.kl_estimator);
  if (o.is_pairwise()) {
    const std::string own = with_algorithm + ", whose loss is DPO's";
    require(o.samples_per_prompt == 2, "samples_per_prompt", "2" + with_algorithm,
            std::to_string(o.samples_per_prompt));
    require(o.kl_coef > 0, "kl_coef", "above 0" + with_algorithm + ", whose beta it is",
            OptionChecks::number(o.kl_coef));
    require(o.kl_place == "auto", "kl_place", "auto" + own, o.kl_place);
    require(o.policy_loss == "ppo", "policy_loss", "ppo, the default," + own, o.policy_loss);
    require(o.clip == 0, "clip", "0" + own, OptionChecks::number(o.clip));
    require(o.clip_high == 0, "clip_high", "0" + own, OptionChecks::number(o.clip_high));
    require(o.dual_clip == 0, "dual_clip", "0" + own, OptionChecks::number(o.dual_clip));
    require(o.sampler_weight == "none", "sampler_weight", "none" + own, o.sampler_weight);
  }
  const bool clips = clips_a_ratio(o) || o.policy_loss == "cispo";
  require(clips || o.clip == 0, "clip", "0" + with_loss + ", which has none",
          OptionChecks::number(o.clip));
  require(clips || o.clip_high == 0, "clip_high", "0" + with_loss + ", which has none",
          OptionChecks::number(o.clip_high));
  require(clips_a_ratio(o) || o.dual_clip == 0, "dual_clip", "0" + with_loss,
          OptionChecks::number(o.dual_clip));
  require(o.policy_loss != "reinforce" || o.epochs == 1, "epochs",
          "1" + with_loss + ", which has no ratio", std::to_string(o.epochs));
  require(!o.advantage_per_token() || (o.policy_loss != "gspo" && o.policy_loss != "rloo"),
          "policy_loss",
          "one of tokens (gspo_token is of advantages that differ within a text)" + with_algorithm,
          o.policy_loss);
  require(o.advantage_per_token() || o.gamma == 1, "gamma",
          "1" + with_algorithm + ", which has one number a text", OptionChecks::number(o.gamma));
  require(o.advantage_per_token() || !o.whiten_rewards, "whiten_rewards",
          "false" + with_algorithm + ", which has one number a text", "true");
  require(o.has_critic() || o.placement == "last", "placement",
          "last" + with_algorithm + ", which has no critic", o.placement);
  require(o.has_critic() || o.value_clip == 0, "value_clip",
          "0" + with_algorithm + ", which has no critic", OptionChecks::number(o.value_clip));
  require(o.has_groups() || o.sampling_rounds == 0, "sampling_rounds",
          "0" + with_algorithm + ", which compares no samples of one prompt",
          std::to_string(o.sampling_rounds));
  require(o.overlong_tokens <= o.max_new_tokens, "overlong_tokens",
          "at most max_new_tokens (" + std::to_string(o.max_new_tokens) + ")",
          std::to_string(o.overlong_tokens));
  require(o.sampler_weight == "none" || o.old_logprobs == "recompute", "sampler_weight",
          "none with old_logprobs = rollout, where it is 1", o.sampler_weight);
  require(o.sampler_weight_high >= o.sampler_weight_low, "sampler_weight_high",
          "at least sampler_weight_low (" + OptionChecks::number(o.sampler_weight_low) + ")",
          OptionChecks::number(o.sampler_weight_high));
}

}  // namespace

void check_online_options(const PpoOptions& o, const std::string& where,
                          const std::string& prefix) {
  const OptionChecks require(where, prefix);
  require.one_of(
      "algorithm", o.algorithm,
      {"ppo", "rloo", "grpo", "dr_grpo", "reinforce_pp", "reinforce_pp_baseline", "online_dpo"});
  require.one_of("policy_loss", o.policy_loss,
                 {"ppo", "gspo", "gspo_token", "cispo", "sapo", "rloo", "reinforce"});
  require.at_least("prompts_per_iteration", static_cast<double>(o.prompts_per_iteration), 1);
  require.at_least("samples_per_prompt", static_cast<double>(o.samples_per_prompt),
                   o.has_groups() ? 2 : 1);
  require.at_least("epochs", static_cast<double>(o.epochs), 1);
  require.at_least("minibatches", static_cast<double>(o.minibatches), 1);
  require.at_least("micro_tokens", static_cast<double>(o.micro_tokens), 0);
  require.at_least("max_new_tokens", static_cast<double>(o.max_new_tokens), 1);
  require.within("temperature", o.temperature, 1e-3, 100);
  require.not_negative("kl_coef", o.kl_coef);
  require.one_of("kl_place", o.kl_place, {"auto", "reward", "loss"});
  require.one_of("kl_estimator", o.kl_estimator, {"k1", "k2", "k3", "abs"});
  require.one_of("kl_controller", o.kl_controller, {"fixed", "adaptive"});
  require.within("gamma", o.gamma, 0, 1);
  require.within("lambda", o.lambda, 0, 1);
  require.within("clip", o.clip, 0, 1);
  require.not_negative("clip_high", o.clip_high);
  require(o.dual_clip == 0 || o.dual_clip > 1, "dual_clip", "0 or a number > 1",
          OptionChecks::number(o.dual_clip));
  require.positive("tau_positive", o.tau_positive);
  require.positive("tau_negative", o.tau_negative);
  require.not_negative("value_clip", o.value_clip);
  require.one_of("placement", o.placement, {"last", "after_last"});
  require.one_of("missing_eos", o.missing_eos, {"keep", "replace", "subtract", "cap"});
  require.at_least("overlong_tokens", static_cast<double>(o.overlong_tokens), 0);
  require.not_negative("overlong_penalty", o.overlong_penalty);
  require.at_least("sampling_rounds", static_cast<double>(o.sampling_rounds), 0);
  require.one_of("old_logprobs", o.old_logprobs, {"recompute", "rollout"});
  require.one_of("sampler_weight", o.sampler_weight,
                 {"none", "token_truncate", "token_mask", "sequence_truncate", "sequence_mask"});
  require.not_negative("sampler_weight_low", o.sampler_weight_low);
  require.one_of("aggregation", o.aggregation, {"token_mean", "seq_mean_token_mean", "constant"});
  check_together(o, require);
}

void validate(const PpoProblem& problem, const PpoOptions& o) {
  check_online_options(o, "ppo", "");
  const OptionChecks require("ppo", "");
  require.at_least("iterations", static_cast<double>(o.iterations), 0);
  check_precision("ppo", o.precision);
  parse_missing_eos(o.missing_eos, o.eos_penalty);

  require(problem.actor != nullptr, "actor", "a language model", "none");
  require(problem.reference != nullptr, "reference", "a language model", "none");
  require(!o.has_critic() || problem.critic != nullptr, "critic", "a network with a scalar head",
          "none");
  require(static_cast<bool>(problem.score), "score", "a function", "none");
  require(!problem.prompts.empty(), "prompts", "at least one", "none");
  require(problem.normalization.std > 0, "normalization.std", "a number > 0",
          std::to_string(problem.normalization.std));
}

}  // namespace hone::engine
