#include "engine/trainers/ppo_validation.h"

#include <cmath>
#include <initializer_list>
#include <string>

#include "data/error.h"
#include "engine/rollout/response.h"

namespace hone::engine {
namespace {

void require(bool ok, const char* what, const std::string& expected, const std::string& got) {
  if (!ok) throw data::InputError("ppo", what, expected, got);
}

void at_least(const char* what, int64_t got, int64_t least) {
  require(got >= least, what, "a number >= " + std::to_string(least), std::to_string(got));
}

void one_of(const char* what, const std::string& got, std::initializer_list<const char*> names) {
  std::string expected;
  for (const char* name : names) {
    if (got == name) return;
    expected += (expected.empty() ? "" : ", ") + std::string(name);
  }
  require(false, what, "one of " + expected, got);
}

void unit_interval(const char* what, double got) {
  require(got >= 0 && got <= 1, what, "a number in [0, 1]", std::to_string(got));
}

void not_negative(const char* what, double got) {
  require(std::isfinite(got) && got >= 0, what, "a finite number >= 0", std::to_string(got));
}

}  // namespace

void validate(const PpoProblem& problem, const PpoOptions& o) {
  one_of("algorithm", o.algorithm, {"ppo", "rloo", "grpo", "dr_grpo"});
  at_least("iterations", o.iterations, 0);
  at_least("prompts_per_iteration", o.prompts_per_iteration, 1);
  at_least("samples_per_prompt", o.samples_per_prompt, o.algorithm == "ppo" ? 1 : 2);
  at_least("epochs", o.epochs, 1);
  at_least("minibatches", o.minibatches, 1);
  at_least("micro_tokens", o.micro_tokens, 0);
  check_precision("ppo", o.precision);
  at_least("max_new_tokens", o.max_new_tokens, 1);
  require(std::isfinite(o.temperature) && o.temperature > 0, "temperature", "a number > 0",
          std::to_string(o.temperature));
  one_of("kl_estimator", o.kl_estimator, {"k1", "k2", "k3", "abs"});
  if (o.algorithm == "grpo" || o.algorithm == "dr_grpo") {
    // The expected gradient of k1 in the loss is zero: no regularisation at all (ALGORITHMS 0.6).
    require(o.kl_coef == 0 || o.kl_estimator == "k2" || o.kl_estimator == "k3", "kl_estimator",
            "k2 or k3 where the KL is part of the loss (" + o.algorithm + "), or kl_coef = 0",
            o.kl_estimator);
  }
  unit_interval("gamma", o.gamma);
  unit_interval("lambda", o.lambda);
  not_negative("clip", o.clip);
  not_negative("clip_high", o.clip_high);
  require(o.dual_clip == 0 || o.dual_clip > 1, "dual_clip", "0 or a number > 1",
          std::to_string(o.dual_clip));
  not_negative("value_clip", o.value_clip);
  one_of("placement", o.placement, {"last", "after_last"});
  parse_missing_eos(o.missing_eos, o.eos_penalty);
  one_of("old_logprobs", o.old_logprobs, {"recompute", "rollout"});
  one_of("aggregation", o.aggregation, {"token_mean", "seq_mean_token_mean", "constant"});

  require(problem.actor != nullptr, "actor", "a language model", "none");
  require(problem.reference != nullptr, "reference", "a language model", "none");
  require(o.algorithm != "ppo" || problem.critic != nullptr, "critic",
          "a network with a scalar head", "none");
  require(static_cast<bool>(problem.score), "score", "a function", "none");
  require(!problem.prompts.empty(), "prompts", "at least one", "none");
  require(problem.normalization.std > 0, "normalization.std", "a number > 0",
          std::to_string(problem.normalization.std));
}

}  // namespace hone::engine
