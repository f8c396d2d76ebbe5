#include "engine/config/toml_printer.h"
#include "engine/run/stages.h"
#include "engine/trainers/lm_trainer.h"

namespace hone::engine {
namespace {

std::vector<TrainingText> demonstrations_of(Workspace& workspace, data::Split split) {
  std::vector<TrainingText> texts;
  for (const auto& demonstration : workspace.records().demonstrations) {
    if (demonstration.split != split) continue;
    auto text = workspace.codec().text(
        workspace.codec().prompt_text(demonstration.prompt, demonstration.prompt_is_messages),
        demonstration.completion);
    if (static_cast<int64_t>(text.tokens.size()) > text.prompt_tokens) {
      texts.push_back(std::move(text));
    }
  }
  return texts;
}

}  // namespace

std::string sft_inputs(Workspace& workspace) { return to_toml(workspace.recipe().sft); }

StageOutcome sft_stage(Workspace& workspace) {
  const auto directory = workspace.run().sft();
  const auto model = workspace.load(workspace.run().pretrain(), HeadKind::kLanguageModel);
  const auto texts = demonstrations_of(workspace, data::Split::kTrain);
  const auto held_out = demonstrations_of(workspace, data::Split::kTest);
  StageOutcome outcome;
  outcome.summary["sft.demonstrations"] = texts.size();
  if (texts.empty()) {
    workspace.metrics().say("[sft] no demonstrations in the store: the policy stays as it is");
  } else {
    const auto result = train_lm(*model, texts, workspace.recipe().sft, workspace.seed() + 1, "sft",
                                 workspace.training());
    outcome.figures = {{"steps", result.steps},
                       {"tokens", result.tokens},
                       {"final_loss", result.final_loss},
                       {"training_seconds", result.seconds}};
  }
  workspace.lead([&] {
    copy_tokenizer(workspace.run().pretrain(), directory);
    save_model(*model, directory);
    if (held_out.empty()) return;
    outcome.summary["sft.perplexity"] = evaluate_lm(*model, held_out).perplexity;
  });
  return outcome;
}

}  // namespace hone::engine
