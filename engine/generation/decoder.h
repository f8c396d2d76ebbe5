#pragma once

// What computes the rows of a decode step. All of a step's inputs and outputs stand in buffers that
// are allocated once.

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "engine/generation/generation_options.h"
#include "engine/generation/scheduler.h"
#include "engine/models/causal_lm.h"
#include "kernels/cpu/sample_row.h"

namespace hone::engine {

struct StepBuffers {
  explicit StepBuffers(const SchedulerLimits& limits);

  // In: for each row what it feeds, where, its cache blocks, and the key of its random number.
  int64_t rows = 0;
  int64_t row_blocks = 1;
  std::vector<int64_t> tokens, positions;  // [rows]
  std::vector<int64_t> keys;               // [rows,3] prompt, sample, position
  std::vector<int32_t> table;              // [rows,row_blocks]
  std::vector<kernels::RowEdits> edits;    // [rows]
  bool edited = false;                     // some row has any

  // Out.
  std::vector<int64_t> drawn;                 // [rows]
  std::vector<float> logprobs, raw_logprobs;  // [rows]
};

/// The first `count` tokens of a prompt, whose keys and values go to `blocks`.
struct PromptPart {
  const std::vector<int32_t>& tokens;
  int64_t count;
  const std::vector<int32_t>& blocks;
};

class Decoder {
 public:
  virtual ~Decoder() = default;
  virtual void prefill(const std::vector<PromptPart>& prompts) = 0;
  virtual void copy_blocks(const std::vector<std::pair<int32_t, int32_t>>& copies) = 0;
  /// Draws the next token of every row. Throws c10::Error when logits cannot be sampled from.
  virtual void step(StepBuffers& step) = 0;
};

/// Any model, dtype and device: layer by layer as tensor operations.
std::unique_ptr<Decoder> make_tensor_decoder(CausalLM& model, const SchedulerLimits& limits,
                                             const GenerationOptions& options);

/// Small float32 models on the CPU: whole rows on a thread (kernels/cpu/decoder_stack.h). Keeps a
/// transposed copy of the weights as they are now.
bool fits_stack_decoder(const CausalLM& model);
/// Rows it has use for: with more, their caches push one another out of the cores'.
int64_t stack_decoder_rows();
std::unique_ptr<Decoder> make_stack_decoder(const CausalLM& model, const SchedulerLimits& limits,
                                            const GenerationOptions& options);

}  // namespace hone::engine
