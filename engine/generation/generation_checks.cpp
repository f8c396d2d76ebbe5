#include "engine/generation/generation_checks.h"

#include <limits>
#include <string>

#include "data/error.h"

namespace hone::engine {
namespace {

/// All samples are held until the last one is done.
constexpr int64_t kMaxSamples = 10'000'000;

[[noreturn]] void fail(const std::string& what, const std::string& expected,
                       const std::string& got) {
  throw data::InputError("generate", what, expected, got);
}

bool is_finite(double x) {
  return x > -std::numeric_limits<double>::infinity() &&
         x < std::numeric_limits<double>::infinity();
}

void check_sampling(const GenerationOptions& o) {
  if (!(o.temperature >= 0.0 && is_finite(o.temperature))) {
    fail("temperature", "0 (greedy) or more", std::to_string(o.temperature));
  }
  if (o.top_k < 0) fail("top_k", "0 (off) or more", std::to_string(o.top_k));
  if (!(o.top_p > 0.0 && o.top_p <= 1.0)) fail("top_p", "above 0, to 1", std::to_string(o.top_p));
  if (!(o.min_p >= 0.0 && o.min_p <= 1.0)) fail("min_p", "0 to 1", std::to_string(o.min_p));
  if (!(o.repetition_penalty > 0.0 && is_finite(o.repetition_penalty))) {
    fail("repetition_penalty", "above 0 (1 is off)", std::to_string(o.repetition_penalty));
  }
}

void check_stops(const GenerationOptions& o, int64_t vocab_size) {
  for (const int64_t id : o.stop_ids) {
    if (id < 0 || id >= vocab_size) {
      fail("stop_ids", "ids below " + std::to_string(vocab_size), std::to_string(id));
    }
  }
  for (const std::string& stop : o.stop_strings) {
    if (stop.empty()) fail("stop_strings", "texts of at least one character", "an empty one");
  }
  if (o.tokenizer == nullptr && (!o.stop_strings.empty() || o.on_text)) {
    fail("stop_strings", "a tokenizer", "none");
  }
}

void check_prompts(const std::vector<std::vector<int32_t>>& prompts, const ModelConfig& config) {
  for (size_t i = 0; i < prompts.size(); ++i) {
    const std::string what = "prompt " + std::to_string(i);
    if (prompts[i].empty()) fail(what, "at least one token", "none");
    if (static_cast<int64_t>(prompts[i].size()) >= config.max_positions) {
      fail(what, "fewer tokens than the context of " + std::to_string(config.max_positions),
           std::to_string(prompts[i].size()));
    }
    for (const int32_t id : prompts[i]) {
      if (id < 0 || id >= config.vocab_size) {
        fail(what, "ids below " + std::to_string(config.vocab_size), std::to_string(id));
      }
    }
  }
}

}  // namespace

void check_generation(const GenerationOptions& o, const std::vector<std::vector<int32_t>>& prompts,
                      int64_t n, const std::vector<int64_t>& prompt_ids,
                      const ModelConfig& config) {
  if (n < 1) fail("n", "1 or more samples per prompt", std::to_string(n));
  if (!prompts.empty() && n > kMaxSamples / static_cast<int64_t>(prompts.size())) {
    fail("n", "at most " + std::to_string(kMaxSamples) + " samples in all",
         std::to_string(n) + " for each of " + std::to_string(prompts.size()) + " prompts");
  }
  if (o.max_new_tokens < 1) fail("max_new_tokens", "1 or more", std::to_string(o.max_new_tokens));
  if (o.min_new_tokens < 0 || o.min_new_tokens > o.max_new_tokens) {
    fail("min_new_tokens", "0 to max_new_tokens", std::to_string(o.min_new_tokens));
  }
  if (o.max_rows < 1) fail("max_rows", "1 or more", std::to_string(o.max_rows));
  if (o.prefill_tokens < 1) fail("prefill_tokens", "1 or more", std::to_string(o.prefill_tokens));
  check_sampling(o);
  check_stops(o, config.vocab_size);
  check_prompts(prompts, config);
  if (!prompt_ids.empty() && prompt_ids.size() != prompts.size()) {
    fail("prompt_ids", std::to_string(prompts.size()) + " ids", std::to_string(prompt_ids.size()));
  }
}

}  // namespace hone::engine
