#pragma once

// How texts are drawn, and what is drawn.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace hone::engine {

class Tokenizer;
struct Sample;

struct GenerationOptions {
  int64_t max_new_tokens = 64;
  int64_t min_new_tokens = 0;  // tokens before a stop token may be drawn (as transformers counts)
  double temperature = 1.0;    // 0 = greedy, ties to the lowest id
  int64_t top_k = 0;           // 0 = all
  double top_p = 1.0;
  double min_p = 0.0;
  /// Logits of ids that stand in the prompt or the response: divided by this when positive,
  /// multiplied when negative (as transformers); 1 = off.
  double repetition_penalty = 1.0;
  int64_t seed = 0;
  std::vector<int64_t> stop_ids;  // kept as the last token
  /// A response ends when its text holds one of these, however tokens cut it. The text ends before
  /// the stop string, the tokens are kept (as vLLM). Text of the first min_new_tokens does not
  /// count.
  std::vector<std::string> stop_strings;
  const Tokenizer* tokenizer = nullptr;  // needed by stop_strings and on_text

  // What follows changes speed and memory only.
  int64_t max_rows = 256;         // rows decoded together
  int64_t prefill_tokens = 4096;  // prompt tokens computed together; longer prompts go in pieces
  /// Small float32 models on the CPU run through kernels/cpu/decoder_stack.h, not layer by layer.
  bool use_stack = true;
  /// On a GPU the operations of a step are recorded and launched as one (recorded_work.h).
  bool record_steps = true;

  /// Called after each step with the tokens generated so far (progress, interruption: return
  /// false).
  std::function<bool(int64_t tokens)> progress;
  /// Called once per finished sample, in order (prompt, sample), as early as that order allows.
  std::function<void(const Sample&)> on_sample;
  /// Called with each new token, in no order across samples.
  std::function<void(const Sample&, int32_t token)> on_token;
  /// Called with the text that each new token settles: no stop string can begin in it any more.
  std::function<void(const Sample&, const std::string& text)> on_text;
};

struct Sample {
  int64_t prompt = 0;               // index into the prompts
  int64_t sample = 0;               // 0 ... n-1
  std::vector<int32_t> tokens;      // response only, with the stop token if one was drawn
  std::vector<float> logprobs;      // under the distribution really sampled from
  std::vector<float> raw_logprobs;  // under softmax of the model's logits
  bool stopped = false;     // ended by a stop token or a stop string (else by the length limit)
  bool finished = false;    // false only when `progress` ended the run before
  std::string stop_string;  // the one that ended it, if any
  std::string text;         // of the response, with stop_strings or on_text
};

}  // namespace hone::engine
