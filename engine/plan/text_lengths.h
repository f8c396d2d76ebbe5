#pragma once

// How long texts are is in no recipe: assumed from its limits, or read from a run that was.

#include <filesystem>
#include <map>
#include <string>

#include "engine/config/recipe.h"

namespace hone::engine {

struct TextLengths {                // tokens
  double prompt = 0, response = 0;  // of a sampled text
  double reward_batch = 0;          // of one step of the reward model
};

/// Responses as long as they may be; prompts by data.prompt_words (1.5 tokens a word and the one
/// that begins a text) or as long as they may be; texts of a reward batch as long as a sampled one.
TextLengths assumed_lengths(const Recipe& recipe, int64_t max_positions);

/// Figures of a run of `hone run`, from its stages/*.json and metrics.jsonl.
struct MeasuredRun {
  TextLengths lengths;
  /// Seconds of one step, by stage; of train also "rollout", "scoring", "update" of an iteration.
  std::map<std::string, double> seconds;
  std::map<std::string, int64_t> steps;
};
/// Throws data::IoError where there is no run. What it has not done stays as `assumed`.
MeasuredRun measured_run(const std::filesystem::path& run, const TextLengths& assumed);

}  // namespace hone::engine
