#include <ATen/ATen.h>

#include "experiments/experiment.h"
#include "experiments/markov_policy.h"
#include "kernels/ops.h"

namespace hone::experiments {
namespace {

constexpr int64_t kVocabulary = 12, kLength = 10, kTexts = 512, kUpdates = 800, kGroup = 8;
constexpr double kBeta = 0.3, kLr = 0.03;

enum class Place { kReward, kRewardToGo, kLossSequence, kLossToken };

struct Variant {
  const char* name;
  Place place;
  const char* estimator;
  bool group_std;
};

// Order of the table in ALGORITHMS.md E2.
constexpr Variant kVariants[] = {
    {"k1 in reward (sequence)", Place::kReward, "k1", false},
    {"k1 in reward, per token to go", Place::kRewardToGo, "k1", false},
    {"k1 in reward, group std", Place::kReward, "k1", true},
    {"k2 as loss, sequence", Place::kLossSequence, "k2", false},
    {"k2 as loss, per token", Place::kLossToken, "k2", false},
    {"k3 as loss, per token (GRPO)", Place::kLossToken, "k3", false},
    {"k3 as loss, group std (GRPO as published)", Place::kLossToken, "k3", true},
    {"k2 in reward", Place::kReward, "k2", false},
    {"k3 in reward", Place::kReward, "k3", false},
    {"k1 as loss", Place::kLossToken, "k1", false},
};

at::Tensor by_text(const at::Tensor& tokens) { return tokens.view({kTexts, -1}); }

/// KL of each token by estimator, of d = log pi - log ref.
at::Tensor estimate(const at::Tensor& d, const std::string& estimator) {
  if (estimator == "k1") return d;
  if (estimator == "k2") return d.square() / 2;
  return (-d).expm1() + d;
}

at::Tensor group_advantages(const at::Tensor& returns, bool group_std) {
  return kernels::group_advantages(returns, kGroup, {.kind = group_std ? "grpo" : "rloo"});
}

at::Tensor loss_of(const Variant& variant, const MarkovRollout& rollout, const at::Tensor& logprobs,
                   const at::Tensor& reference) {
  const auto old = logprobs.detach();
  const auto d = old - reference;
  const auto kl = estimate(d, variant.estimator);
  auto returns = by_text(rollout.rewards).sum(1);
  if (variant.place == Place::kReward) returns = returns - kBeta * by_text(kl).sum(1);
  auto advantages =
      group_advantages(returns, variant.group_std).unsqueeze(1).expand({kTexts, kLength});
  if (variant.place == Place::kRewardToGo) {
    // Score by leave-one-out; the KL still to come, less its mean, token by token.
    const auto to_go = by_text(kl).flip(1).cumsum(1).flip(1);
    advantages = advantages - kBeta * (to_go - to_go.mean(0, true));
  }
  const auto weights = at::full({kTexts * kLength}, 1.0 / kTexts, at::kFloat);
  kernels::PolicyLossOptions options;
  if (variant.place == Place::kLossToken) {
    options.kl_coef = kBeta;
    options.kl_estimator = variant.estimator;
  }
  auto loss =
      kernels::policy_loss(logprobs, old, advantages.reshape({-1}), reference, weights, options)
          .loss;
  if (variant.place == Place::kLossSequence) {
    loss = loss + kBeta * by_text(logprobs - reference).sum(1).square().mean() / 2;
  }
  return loss;
}

ExactFigures run(const MarkovTask& task, const Variant& variant, const ExperimentOptions& options) {
  const auto updates = static_cast<int64_t>(kUpdates * options.scale);
  MarkovPolicy policy(task, kLr, updates);
  for (int64_t update = 0; update < updates; ++update) {
    const auto rollout =
        policy.sample(kTexts, static_cast<int64_t>(options.seed) * 1000003 + update, 1.0);
    const auto reference = reference_logprobs(task, rollout.states, rollout.actions);
    policy.step(
        loss_of(variant, rollout, policy.logprobs(rollout.states, rollout.actions), reference));
  }
  return task.evaluate(policy.log_table());
}

}  // namespace

ExperimentResult kl_placement(const ExperimentOptions& options) {
  const MarkovTask task(kVocabulary, kLength, kBeta, options.seed);
  const double best = task.optimal_objective();
  const double best_kl = task.evaluate(task.optimum()).kl;
  ExperimentResult result;
  result.name = "kl-placement";
  result.columns = {"KL", "KL / KL*", "gap %"};
  for (const auto& variant : kVariants) {
    const auto figures = run(task, variant, options);
    const double gap = 100.0 * (best - figures.objective(kBeta)) / best;
    result.rows.push_back({variant.name, {figures.kl, figures.kl / best_kl, gap}, "", true});
  }
  const auto line = [&](size_t row, const std::string& expected, bool passed) {
    result.rows[row].expected = expected;
    result.rows[row].passed = passed;
  };
  const auto gap = [&](size_t row) { return result.rows[row].figures[2]; };
  line(0, "gap < 0.3 %", gap(0) < 0.3);
  line(3, "better than per token", gap(3) < gap(4));
  line(4, "better than k3", gap(4) < gap(5));
  line(5, "gap > 10 %", gap(5) > 10);
  line(7, "gap > 30 %", gap(7) > 30);
  line(8, "worse than k2 in reward", gap(8) > gap(7));
  line(9, "KL > 3 KL*", result.rows[9].figures[1] > 3);
  result.reading =
      "Only k1 in the reward (and, nearly, k2 of the whole sequence as a loss) is the gradient of "
      "the KL: the quality of an estimator is not the quality of its gradient.";
  return result;
}

}  // namespace hone::experiments
