#pragma once

// Sampling from a policy: continuous batching over a block KV cache on flat tokens.

#include <cstdint>
#include <functional>
#include <vector>

#include "engine/models/causal_lm.h"

namespace hone::engine {

struct GenerationOptions {
  int64_t max_new_tokens = 64;
  int64_t min_new_tokens = 0;
  double temperature = 1.0;  // 0 = greedy
  int64_t top_k = 0;
  double top_p = 1.0;
  double min_p = 0.0;
  int64_t seed = 0;
  std::vector<int64_t> stop_ids;  // kept as the last token
  int64_t max_rows = 256;         // rows decoded together
  /// Called after each step with the tokens generated so far (progress, interruption: return false).
  std::function<bool(int64_t tokens)> progress;
};

struct Sample {
  int64_t prompt = 0;  // index into the prompts
  int64_t sample = 0;  // 0 ... n-1
  std::vector<int32_t> tokens;    // response only, with the stop token if one was drawn
  std::vector<float> logprobs;    // under the distribution really sampled from
  std::vector<float> raw_logprobs;
  bool stopped = false;           // ended by a stop token (else by the length limit)
};

/// n samples per prompt, in order (prompt, sample). What a prompt yields depends on the weights,
/// the prompt, (seed, prompt id, sample, position) only. prompt_ids (empty: 0...) key the random
/// numbers. Throws data::InputError for empty prompts, ids out of range, contexts too long.
std::vector<Sample> generate(CausalLM& model, const std::vector<std::vector<int32_t>>& prompts,
                             int64_t n, const GenerationOptions& options,
                             const std::vector<int64_t>& prompt_ids = {});

}  // namespace hone::engine
