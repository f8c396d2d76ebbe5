#pragma once

// Sampling from a policy: continuous batching over a block KV cache on flat tokens.

#include <cstdint>
#include <functional>
#include <vector>

#include "engine/models/causal_lm.h"

namespace hone::engine {

struct Sample;

struct GenerationOptions {
  int64_t max_new_tokens = 64;
  int64_t min_new_tokens = 0;  // tokens before a stop token may be drawn (as transformers counts)
  double temperature = 1.0;    // 0 = greedy
  int64_t top_k = 0;
  double top_p = 1.0;
  double min_p = 0.0;
  int64_t seed = 0;
  std::vector<int64_t> stop_ids;  // kept as the last token
  int64_t max_rows = 256;         // rows decoded together
  /// Called after each step with the tokens generated so far (progress, interruption: return
  /// false).
  std::function<bool(int64_t tokens)> progress;
  /// Called once per finished sample, in order (prompt, sample), as early as that order allows.
  std::function<void(const Sample&)> on_sample;
  /// Called with each new token, in no order across samples.
  std::function<void(const Sample&, int32_t token)> on_token;
};

struct Sample {
  int64_t prompt = 0;           // index into the prompts
  int64_t sample = 0;           // 0 ... n-1
  std::vector<int32_t> tokens;  // response only, with the stop token if one was drawn
  std::vector<float> logprobs;  // under the distribution really sampled from
  std::vector<float> raw_logprobs;
  bool stopped = false;   // ended by a stop token (else by the length limit)
  bool finished = false;  // false only when `progress` ended the run before
};

/// n samples per prompt, in order (prompt, sample). What a prompt yields depends on the weights,
/// the prompt, (seed, prompt id, sample, position) only. prompt_ids (empty: 0...) key the random
/// numbers; `position` counts from the start of the prompt, so that a text continued in two calls
/// draws as in one. A response also ends at the model's context (stopped is then false), as
/// transformers and llama.cpp do. Throws data::InputError for options out of range, empty prompts,
/// ids out of range and prompts that leave no room in the context.
///
/// Prompts are prefilled by the packed forward (whole prompts, about kPrefillTokens at a time), all
/// but their last token, which is the row's first decode step. A prompt's cache is computed once
/// for its n samples: full blocks are shared, the part-filled one is copied.
std::vector<Sample> generate(CausalLM& model, const std::vector<std::vector<int32_t>>& prompts,
                             int64_t n, const GenerationOptions& options,
                             const std::vector<int64_t>& prompt_ids = {});

}  // namespace hone::engine
