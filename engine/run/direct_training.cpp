#include "engine/run/direct_training.h"

#include <cmath>
#include <optional>

#include "engine/run/compared_texts.h"
#include "engine/run/policy_judge.h"
#include "engine/trainers/direct_trainer.h"

namespace hone::engine {
namespace {

MetricValues metrics_of(const DirectFigures& figures) {
  return {{"direct_eval/accuracy", figures.accuracy},
          {"direct_eval/loss", figures.loss},
          {"direct_eval/margin", figures.margin},
          {"direct_eval/chosen_logprob", figures.chosen_logprob},
          {"direct_eval/rejected_logprob", figures.rejected_logprob}};
}

void summarise(const DirectResult& result, const std::vector<reward::DirectPair>& held_out,
               nlohmann::json& summary) {
  if (held_out.empty()) return;
  const double accuracy = result.after.accuracy;
  summary["direct.pair_accuracy"] = accuracy;
  summary["direct.pair_accuracy_stderr"] =
      std::sqrt(accuracy * (1 - accuracy) / judgements_of(held_out));
  summary["direct.pair_accuracy_training"] = result.training_after.accuracy;
  summary["direct.held_out_judgements"] = judgements_of(held_out);
  summary["direct.margin"] = result.after.margin;
  const auto change = [&](const std::string& name, double before, double after) {
    summary["direct." + name + ".before"] = before;
    summary["direct." + name + ".after"] = after;
  };
  change("loss", result.before.loss, result.after.loss);
  change("chosen_logprob", result.before.chosen_logprob, result.after.chosen_logprob);
  change("rejected_logprob", result.before.rejected_logprob, result.after.rejected_logprob);
}

}  // namespace

StageOutcome direct_training(Workspace& workspace) {
  const auto& recipe = workspace.recipe().train;
  const auto& run = workspace.run();
  auto& metrics = workspace.metrics();
  auto compared = compared_texts(workspace);
  if (compared.other_prompts > 0) {
    metrics.warn("[train] " + std::to_string(compared.other_prompts) +
                 " compared pairs are of answers to two prompts and left out");
  }
  const auto policy = workspace.load(run.sft(), HeadKind::kLanguageModel);
  reward::Normalization normalization;
  StageOutcome outcome;
  std::optional<PolicyJudge> judge;
  workspace.lead([&] {
    if (workspace.recipe().has_reward_model()) {
      const auto reward_model = workspace.load(run.reward(), HeadKind::kScalar);
      normalization = training_normalization(workspace, *policy, *reward_model);
      outcome.figures["normalization_mean"] = normalization.mean;
      outcome.figures["normalization_std"] = normalization.std;
    }
    if (recipe.evaluate_every > 0) judge.emplace(workspace, normalization);
  });
  DirectProblem problem;
  problem.policy = policy.get();
  problem.texts = std::move(compared.texts);
  problem.pairs = std::move(compared.training);
  problem.held_out = std::move(compared.held_out);
  problem.seed = workspace.seed() + 3;
  problem.look_every = recipe.evaluate_every;
  if (recipe.evaluate_every > 0) {
    problem.look = [&](int64_t step, const DirectFigures& held_out) {
      workspace.lead([&] {
        record_look(workspace, "direct_eval", judge->judge(*policy), step,
                    problem.held_out.empty() ? MetricValues{} : metrics_of(held_out));
      });
    };
  }
  const auto result = train_direct(problem, recipe.direct, workspace.training());
  workspace.lead([&] {
    copy_tokenizer(run.sft(), run.policy());
    save_model(*policy, run.policy());
  });
  outcome.figures.update({{"steps", result.steps},
                          {"tokens", result.tokens},
                          {"training_seconds", result.seconds},
                          {"first_loss", result.first_loss}});
  outcome.summary = {{"direct.loss_name", recipe.direct.loss},
                     {"direct.pairs", problem.pairs.size()},
                     {"direct.judgements", compared.judgements},
                     {"direct.ties", compared.ties},
                     {"direct.pairs_of_two_prompts", compared.other_prompts}};
  summarise(result, problem.held_out, outcome.summary);
  return outcome;
}

}  // namespace hone::engine
