#pragma once

// One look at a policy: samples on held-out prompts, and everything that scores them.

#include <optional>
#include <string>
#include <vector>

#include "engine/run/text_statistics.h"
#include "engine/run/workspace.h"
#include "reward/bag_of_words.h"
#include "reward/normalization.h"

namespace hone::engine {

struct Estimate {
  double mean = 0, standard_error = 0;  // the error of a single value: NaN, unknown
};
Estimate estimate(const std::vector<double>& values);

struct JudgedPolicy {
  std::vector<std::string> responses;
  std::vector<double> judge;   // the external judge, empty when the recipe has none
  std::vector<double> proxy;   // the reward model, normalised; empty when the run has none
  std::vector<double> other;   // bag of words of the raters that it did not use; likewise, or
                               // empty when there are none of them
  std::vector<double> kl;      // to the reference, nats a text
  std::vector<double> length;  // new tokens, the end token included
  TextStatistics statistics;
  double eos_rate = 0;
};

class PolicyJudge {
 public:
  /// Held-out prompts evenly spaced over the test split; `normalization` is the training's, of no
  /// meaning without a reward model.
  PolicyJudge(Workspace& workspace, reward::Normalization normalization);
  JudgedPolicy judge(CausalLM& policy);
  const std::vector<Workspace::Prompt>& prompts() const { return prompts_; }
  /// Scores of the external judge for whole texts by people.
  std::vector<double> judge_texts(const std::vector<std::string>& texts);

 private:
  Workspace& workspace_;
  reward::Normalization normalization_;
  std::vector<Workspace::Prompt> prompts_;
  std::unique_ptr<CausalLM> reward_, reference_;  // reward_: null when the run has none
  std::optional<reward::BagOfWords> other_;
  std::optional<TextStatisticsReference> statistics_;
};

/// One metrics line of stage `area` ("ppo_eval", "direct_eval") about a policy in training, `more`
/// of it besides.
void record_look(Workspace& workspace, const std::string& area, const JudgedPolicy& look,
                 int64_t step, const MetricValues& more = {});

/// What score 0 (and 1) mean in this run, by the recipe's train.normalization.
reward::Normalization training_normalization(Workspace& workspace, CausalLM& policy,
                                             CausalLM& reward_model);

}  // namespace hone::engine
