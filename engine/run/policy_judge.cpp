#include "engine/run/policy_judge.h"

#include <cmath>
#include <numeric>

#include "data/atomic_file.h"
#include "engine/generation/generator.h"
#include "engine/run/external_program.h"
#include "engine/run/reward_files.h"
#include "engine/trainers/ppo_trainer.h"
#include "engine/trainers/reward_trainer.h"

namespace hone::engine {
namespace {

// Stream of the samples that set the normalisation; apart from rollouts and evaluation.
constexpr int64_t kNormalizationSeed = 5;

GenerationOptions generation_options(const Workspace& workspace, int64_t seed) {
  const auto sampling = workspace.recipe().train.sampling();
  GenerationOptions options;
  options.max_new_tokens = sampling.max_new_tokens;
  options.temperature = sampling.temperature;
  options.seed = seed;
  return options;
}

TokenIds concatenated(const TokenIds& prompt, const TokenIds& response) {
  TokenIds all = prompt;
  all.insert(all.end(), response.begin(), response.end());
  return all;
}

/// `count` members evenly spaced.
std::vector<Workspace::Prompt> evenly_spaced(const std::vector<Workspace::Prompt>& all,
                                             int64_t count) {
  const size_t step = std::max<size_t>(1, all.size() / static_cast<size_t>(count));
  std::vector<Workspace::Prompt> chosen;
  for (size_t i = 0; i < all.size() && chosen.size() < static_cast<size_t>(count); i += step) {
    chosen.push_back(all[i]);
  }
  return chosen;
}

std::vector<double> widened(const std::vector<float>& values) {
  return {values.begin(), values.end()};
}

}  // namespace

Estimate estimate(const std::vector<double>& values) {
  if (values.empty()) return {};
  const auto n = static_cast<double>(values.size());
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return {mean, values.size() < 2 ? std::nan("") : std::sqrt(squares / (n - 1) / n)};
}

PolicyJudge::PolicyJudge(Workspace& workspace, reward::Normalization normalization)
    : workspace_(workspace),
      normalization_(normalization),
      prompts_(evenly_spaced(workspace.prompts(data::Split::kTest),
                             workspace.recipe().evaluate.prompts)),
      reference_(workspace.load(workspace.run().sft(), HeadKind::kLanguageModel)) {
  if (workspace.recipe().has_reward_model()) {
    reward_ = workspace.load(workspace.run().reward(), HeadKind::kScalar);
    const auto words = workspace.run().reward() / "bag_of_words.json";
    auto baseline = reward::BagOfWords::from_json(data::read_file(words), words.string());
    if (!baseline.empty()) other_ = std::move(baseline);
  }
  std::vector<std::string> training_texts;
  for (const int64_t item : workspace.items_of(data::Split::kTrain)) {
    training_texts.push_back(workspace.whole_text(item));
  }
  statistics_.emplace(training_texts);
}

JudgedPolicy PolicyJudge::judge(CausalLM& policy) {
  const auto& recipe = workspace_.recipe();
  auto options = generation_options(workspace_, recipe.evaluate.seed);
  options.stop_ids = policy.config().eos_ids;
  std::vector<TokenIds> prompts, responses, sequences;
  for (const auto& prompt : prompts_) prompts.push_back(prompt.tokens);
  JudgedPolicy result;
  std::vector<std::string> texts;
  std::vector<TextToScore> to_score;
  double stopped = 0;
  for (const auto& sample : generate(policy, prompts, 1, options)) {
    const auto p = static_cast<size_t>(sample.prompt);
    responses.push_back(sample.tokens);
    sequences.push_back(concatenated(prompts[p], sample.tokens));
    const std::string prompt = workspace_.codec().decode(prompts[p]);
    const std::string text = workspace_.codec().decode(sequences.back());
    const std::string response = text.size() >= prompt.size() ? text.substr(prompt.size()) : text;
    result.responses.push_back(response);
    to_score.push_back({prompt, response});
    texts.push_back(text);
    if (other_) result.other.push_back(other_->score(text));
    result.length.push_back(static_cast<double>(sample.tokens.size()));
    stopped += sample.stopped ? 1 : 0;
  }
  result.eos_rate = stopped / static_cast<double>(prompts.size());
  if (reward_) {
    for (const float score : score_sequences(*reward_, sequences)) {
      result.proxy.push_back(normalization_.apply(score));
    }
  }
  result.kl =
      sequence_kl(policy, *reference_, prompts, responses, recipe.train.sampling().temperature);
  result.statistics = statistics_->of(texts);
  if (!recipe.evaluate.judge.empty()) {
    result.judge = widened(score_by_program(workspace_.expand(recipe.evaluate.judge), to_score,
                                            workspace_.run().evaluation() / "judge"));
  }
  return result;
}

std::vector<double> PolicyJudge::judge_texts(const std::vector<std::string>& texts) {
  std::vector<TextToScore> to_score;
  for (const auto& text : texts) to_score.push_back({"", text});
  return widened(score_by_program(workspace_.expand(workspace_.recipe().evaluate.judge), to_score,
                                  workspace_.run().evaluation() / "judge"));
}

void record_look(Workspace& workspace, const std::string& area, const JudgedPolicy& look,
                 int64_t step, const MetricValues& more) {
  MetricValues values;
  const auto add = [&](const std::string& name, double value) {
    values.emplace_back(area + "/" + name, value);
  };
  if (!look.proxy.empty()) add("proxy", estimate(look.proxy).mean);
  if (!look.other.empty()) add("other", estimate(look.other).mean);
  add("kl", estimate(look.kl).mean);
  add("distinct_bigrams", look.statistics.distinct_bigrams);
  add("copied_six_grams", look.statistics.copied_six_grams);
  add("length", estimate(look.length).mean);
  if (!look.judge.empty()) add("judge", estimate(look.judge).mean);
  values.insert(values.end(), more.begin(), more.end());
  workspace.metrics().record(area, step, values);
}

reward::Normalization training_normalization(Workspace& workspace, CausalLM& policy,
                                             CausalLM& reward_model) {
  const auto& options = workspace.recipe().train;
  if (options.normalization == "none") return {};
  if (options.normalization == "demonstrations") {
    return read_reward_file(workspace.run().reward()).normalization;
  }
  std::vector<TokenIds> prompts;
  for (const auto& prompt :
       evenly_spaced(workspace.prompts(data::Split::kTrain), options.normalization_samples)) {
    prompts.push_back(prompt.tokens);
  }
  auto generation = generation_options(workspace, kNormalizationSeed);
  generation.stop_ids = policy.config().eos_ids;
  std::vector<TokenIds> sequences;
  for (const auto& sample : generate(policy, prompts, 1, generation)) {
    sequences.push_back(concatenated(prompts[static_cast<size_t>(sample.prompt)], sample.tokens));
  }
  const auto scores = widened(score_sequences(reward_model, sequences));
  const auto moments = estimate(scores);
  const double std = moments.standard_error * std::sqrt(static_cast<double>(scores.size()));
  return {moments.mean, std > 1e-6 ? std : 1.0};
}

}  // namespace hone::engine
