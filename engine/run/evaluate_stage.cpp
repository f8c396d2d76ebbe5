#include <algorithm>

#include "data/atomic_file.h"
#include "data/sha256.h"
#include "engine/config/toml_printer.h"
#include "engine/run/early_findings.h"
#include "engine/run/policy_judge.h"
#include "engine/run/stages.h"

namespace hone::engine {
namespace {

std::vector<double> differences(const std::vector<double>& after,
                                const std::vector<double>& before) {
  std::vector<double> result;
  for (size_t i = 0; i < std::min(after.size(), before.size()); ++i) {
    result.push_back(after[i] - before[i]);
  }
  return result;
}

void write_samples(Workspace& workspace, const PolicyJudge& judge, const JudgedPolicy& before,
                   const JudgedPolicy& after) {
  std::string lines;
  for (size_t i = 0; i < judge.prompts().size(); ++i) {
    nlohmann::json sample = {{"prompt", judge.prompts()[i].text},
                             {"before", before.responses[i]},
                             {"after", after.responses[i]}};
    if (!before.proxy.empty()) {
      sample["proxy_before"] = before.proxy[i];
      sample["proxy_after"] = after.proxy[i];
    }
    if (!before.judge.empty()) {
      sample["judge_before"] = before.judge[i];
      sample["judge_after"] = after.judge[i];
    }
    lines += sample.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  }
  data::write_file_atomically(workspace.run().evaluation() / "samples.jsonl", lines);
}

/// What people wrote on the same test texts: all demonstrations of the test split, judged.
void judge_people(Workspace& workspace, PolicyJudge& judge, nlohmann::json& summary) {
  std::vector<std::string> texts;
  for (const auto& d : workspace.records().demonstrations) {
    if (d.split != data::Split::kTest) continue;
    texts.push_back(workspace.codec().prompt_text(d.prompt, d.prompt_is_messages) + d.completion);
  }
  if (texts.empty()) return;
  const auto figure = estimate(judge.judge_texts(texts));
  summary["judge.people"] = figure.mean;
  summary["judge.stderr_people"] = figure.standard_error;
}

StageOutcome evaluate_all(Workspace& workspace) {
  const auto& run = workspace.run();
  std::filesystem::create_directories(run.evaluation());
  const auto base = workspace.load(run.pretrain(), HeadKind::kLanguageModel);
  const auto sft = workspace.load(run.sft(), HeadKind::kLanguageModel);
  const auto policy = workspace.load(run.policy(), HeadKind::kLanguageModel);
  const auto trained = read_stage_record(run, "train");
  reward::Normalization normalization;
  if (workspace.recipe().has_reward_model()) {
    normalization = {trained->figures.at("normalization_mean"),
                     trained->figures.at("normalization_std")};
  }
  PolicyJudge judge(workspace, normalization);
  const auto before = judge.judge(*sft), after = judge.judge(*policy);
  StageOutcome outcome;
  auto& summary = outcome.summary;
  summarise(before, "before", summary);
  summarise(after, "after", summary);
  const auto kl = estimate(after.kl);
  summary["policy.kl"] = kl.mean;
  summary["policy.kl_stderr"] = kl.standard_error;
  summary["evaluate.prompts"] = judge.prompts().size();
  if (!before.judge.empty()) {
    summary["judge.base"] = estimate(judge.judge(*base).judge).mean;
    const auto gain = estimate(differences(after.judge, before.judge));
    summary["judge.gain"] = gain.mean;
    summary["judge.stderr_gain"] = gain.standard_error;
    summary["judge.name"] = workspace.recipe().evaluate.judge_name;
    judge_people(workspace, judge, summary);
  }
  write_samples(workspace, judge, before, after);
  return outcome;
}

}  // namespace

std::string evaluate_inputs(Workspace& workspace) {
  std::string text = to_toml(workspace.recipe().evaluate);
  for (const auto& argument : workspace.expand(workspace.recipe().evaluate.judge)) {
    if (std::filesystem::is_regular_file(argument)) text += data::sha256_file(argument);
  }
  return text;
}

StageOutcome evaluate_stage(Workspace& workspace) {
  StageOutcome outcome;
  workspace.lead([&] { outcome = evaluate_all(workspace); });
  return outcome;
}

}  // namespace hone::engine
