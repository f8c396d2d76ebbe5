#pragma once

// Sampling from a policy: continuous batching over a block KV cache on flat tokens.

#include <cstdint>
#include <vector>

#include "engine/generation/generation_options.h"
#include "engine/models/causal_lm.h"

namespace hone::engine {

/// n samples per prompt, in order (prompt, sample). What a prompt yields depends on the weights,
/// the prompt, (seed, prompt id, sample, position) only. prompt_ids (empty: 0...) key the random
/// numbers; `position` counts from the start of the prompt, so that a text continued in two calls
/// draws as in one. A response also ends at the model's context (stopped is then false), as
/// transformers and llama.cpp do. Throws data::InputError for options out of range, empty prompts,
/// ids out of range and prompts that leave no room in the context.
///
/// All but the last token of a prompt is prefilled, about prefill_tokens at a time; the last is the
/// row's first decode step. A prompt's cache is computed once for its n samples: full blocks are
/// shared, the part-filled one is copied.
std::vector<Sample> generate(CausalLM& model, const std::vector<std::vector<int32_t>>& prompts,
                             int64_t n, const GenerationOptions& options,
                             const std::vector<int64_t>& prompt_ids = {});

}  // namespace hone::engine
