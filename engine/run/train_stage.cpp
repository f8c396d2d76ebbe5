#include <ATen/core/grad_mode.h>
#include <ATen/ops/tensor.h>

#include <filesystem>
#include <optional>

#include "data/atomic_file.h"
#include "data/sha256.h"
#include "engine/config/toml_printer.h"
#include "engine/optim/parameter_gather.h"
#include "engine/run/direct_training.h"
#include "engine/run/early_findings.h"
#include "engine/run/external_program.h"
#include "engine/run/policy_judge.h"
#include "engine/run/stages.h"
#include "engine/run/text_lengths.h"
#include "engine/trainers/ppo_trainer.h"
#include "engine/trainers/reward_trainer.h"

namespace hone::engine {
namespace {

/// The critic starts as the reward model on the normalised scale (ALGORITHMS 33): its head divided
/// by the standard deviation; the mean goes into PpoProblem::value_offset.
std::unique_ptr<CausalLM> critic_from(const CausalLM& reward_model,
                                      const reward::Normalization& normalization) {
  auto critic = reward_model.copy(HeadKind::kScalar);
  const at::NoGradGuard no_grad;
  critic->scalar_head().div_(normalization.std);
  return critic;
}

std::function<std::vector<float>(const std::vector<TokenIds>&)> scorer(Workspace& workspace,
                                                                       CausalLM& reward_model) {
  const auto command = workspace.expand(workspace.recipe().train.reward_command);
  if (command.empty()) {
    return [&reward_model](const std::vector<TokenIds>& sequences) {
      return score_sequences(reward_model, sequences);
    };
  }
  return [&workspace, command](const std::vector<TokenIds>& sequences) {
    std::vector<TextToScore> texts;
    for (const auto& ids : sequences) texts.push_back({"", workspace.codec().decode(ids)});
    return score_by_program(command, texts, workspace.run().root / "reward_command");
  };
}

}  // namespace

std::string train_inputs(Workspace& workspace) {
  std::string text = to_toml(workspace.recipe().train);
  for (const auto& argument : workspace.expand(workspace.recipe().train.reward_command)) {
    if (std::filesystem::is_regular_file(argument)) text += data::sha256_file(argument);
  }
  // The judge is looked at during training, so its points are of this stage too.
  return text + to_toml(workspace.recipe().evaluate);
}

StageOutcome train_stage(Workspace& workspace) {
  if (!workspace.recipe().train.online()) return direct_training(workspace);
  const auto& recipe = workspace.recipe().train;
  const auto& run = workspace.run();
  const auto actor = workspace.load(run.sft(), HeadKind::kLanguageModel);
  const auto reward_model = workspace.load(run.reward(), HeadKind::kScalar);
  reward::Normalization normalization;
  workspace.lead([&] { normalization = training_normalization(workspace, *actor, *reward_model); });
  const auto numbers = at::tensor({normalization.mean, normalization.std}, at::kDouble);
  workspace.communicator().broadcast(numbers, 0, "normalization of scores").wait();
  normalization = {numbers[0].item<double>(), numbers[1].item<double>()};
  // No rank holds more than two networks whole at once where they are trained or kept in parts.
  const auto context = workspace.training();
  const auto done_with = [&](CausalLM& model, bool in_parts) {
    if (in_parts) keep_own_part(model.parameters(), context.plan(context.communicator));
  };
  done_with(*actor, context.zero >= 3);
  std::unique_ptr<CausalLM> critic;
  PpoProblem problem;
  problem.actor = actor.get();
  if (recipe.ppo.has_critic()) {
    critic = critic_from(*reward_model, normalization);
    problem.critic = critic.get();
    problem.value_offset = -normalization.mean / normalization.std;
    done_with(*critic, context.zero >= 3);
  }
  done_with(*reward_model, context.frozen_in_parts && recipe.reward_command.empty());
  const auto reference = workspace.load(run.sft(), HeadKind::kLanguageModel);
  problem.reference = reference.get();
  problem.score = scorer(workspace, *reward_model);
  if (recipe.reward_command.empty()) problem.reward_model = reward_model.get();
  problem.score_alone = !recipe.reward_command.empty();
  problem.normalization = normalization;
  for (auto& prompt : workspace.prompts(data::Split::kTrain)) {
    problem.prompts.push_back(std::move(prompt.tokens));
  }
  problem.eos_ids = actor->config().eos_ids;
  problem.seed = workspace.seed() + 3;
  std::optional<PolicyJudge> judge;
  if (recipe.evaluate_every > 0 && workspace.communicator().leads())
    judge.emplace(workspace, normalization);
  GamingWatch watch(workspace.metrics());
  const auto look = [&](int64_t iteration) {
    workspace.lead([&] {
      const auto judged = judge->judge(*actor);
      record_look(workspace, "ppo_eval", judged, iteration);
      if (!watch.has_start()) watch.starts_from(iteration > 0 ? judge->judge(*reference) : judged);
      if (iteration > 0) watch.look(judged, iteration);
    });
  };
  if (recipe.evaluate_every > 0) {
    problem.before_iteration = [&](int64_t iteration) {
      if (iteration % recipe.evaluate_every == 0) look(iteration);
    };
  }
  const auto result = train_ppo(problem, recipe.ppo, context);
  if (recipe.evaluate_every > 0) look(result.iterations);
  workspace.lead([&] {
    copy_tokenizer(run.sft(), run.policy());
    save_model(*actor, run.policy());
  });
  StageOutcome outcome;
  workspace.lead([&] { outcome.summary = answer_length_figures(workspace); });
  outcome.figures = {{"iterations", result.iterations},
                     {"tokens", result.tokens},
                     {"training_seconds", result.seconds},
                     {"seconds_rollout", result.seconds_rollout},
                     {"seconds_scoring", result.seconds_scoring},
                     {"seconds_update", result.seconds_update},
                     {"first_ratio_error", result.first_ratio_error},
                     {"first_approx_kl", result.first_approx_kl},
                     {"normalization_mean", normalization.mean},
                     {"normalization_std", normalization.std}};
  outcome.summary["train.first_ratio_error"] = result.first_ratio_error;
  outcome.summary["train.first_approx_kl"] = result.first_approx_kl;
  return outcome;
}

}  // namespace hone::engine
