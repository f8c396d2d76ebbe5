#include "engine/run/preconditions.h"

#include <algorithm>

#include "data/summary.h"
#include "engine/run/external_program.h"

namespace hone::engine {
namespace {

bool has_judgements(Workspace& workspace) {
  const auto& records = workspace.records();
  const auto trains = [&](int64_t item) {
    return records.items[static_cast<size_t>(item)].split == data::Split::kTrain;
  };
  return std::any_of(records.ratings.begin(), records.ratings.end(),
                     [&](const auto& rating) { return trains(rating.item); }) ||
         std::any_of(records.comparisons.begin(), records.comparisons.end(),
                     [&](const auto& comparison) {
                       return comparison.outcome == data::Outcome::kOrdered &&
                              trains(comparison.items.front());
                     });
}

bool has_prompts(Workspace& workspace, data::Split split) {
  const bool opens = workspace.recipe().data.prompt_words > 0;
  const auto& records = workspace.records();
  return std::any_of(records.items.begin(), records.items.end(),
                     [&](const auto& item) {
                       return item.split == split &&
                              (!item.prompt.empty() || (opens && !item.text.empty()));
                     }) ||
         std::any_of(
             records.demonstrations.begin(), records.demonstrations.end(),
             [&](const auto& shown) { return shown.split == split && !shown.prompt.empty(); });
}

void require_program(const std::string& option, const std::vector<std::string>& command) {
  if (command.empty() || can_start(command[0])) return;
  throw data::InputError("recipe", option, "a program that can be started", command[0]);
}

}  // namespace

data::InputError no_judgements(const RunDirectory& run) {
  return {run.feedback().string(), "judgements", "ratings or comparisons of training texts",
          "none"};
}

data::InputError no_prompts(const RunDirectory& run, data::Split split) {
  return {run.feedback().string(), "prompts of the " + data::split_name(split) + " split",
          "items or demonstrations with prompts (or data.prompt_words > 0)", "none"};
}

void check_preconditions(Workspace& workspace, const std::vector<std::string>& stages) {
  const auto has = [&](const char* stage) {
    return std::find(stages.begin(), stages.end(), stage) != stages.end();
  };
  const auto& recipe = workspace.recipe();
  if (has("reward") && !has_judgements(workspace)) throw no_judgements(workspace.run());
  const bool samples = has("train") && recipe.train.online();
  const bool judges = has("evaluate") || (has("train") && recipe.train.evaluate_every > 0);
  for (const auto& [needed, split] :
       {std::pair{samples, data::Split::kTrain}, std::pair{judges, data::Split::kTest}}) {
    if (needed && !has_prompts(workspace, split)) throw no_prompts(workspace.run(), split);
  }
  if (samples) {
    require_program("train.reward_command", workspace.expand(recipe.train.reward_command));
  }
  if (judges) require_program("evaluate.judge", workspace.expand(recipe.evaluate.judge));
}

}  // namespace hone::engine
