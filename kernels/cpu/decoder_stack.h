#pragma once

// A whole float32 decoder for a few rows on one thread: from token ids to logits without a barrier
// or an allocation. For small models, whose weights stay in a core's cache and whose layers are
// too short to share between threads; rows go to threads instead. The bits of a row depend on
// nothing but the row.

#include <cstdint>
#include <vector>

#include "kernels/attention_shape.h"
#include "kernels/cpu/sample_row.h"

namespace hone::kernels {

/// Positions of a cache block: a whole AVX-512 vector of scores.
constexpr int64_t kStackBlock = 16;
/// Rows that go through the layers together: they share every load of a weight.
constexpr int64_t kStackRows = 16;
/// Matrix rows are padded to this with zeros.
constexpr int64_t kStackPad = 16;

constexpr int64_t stack_padded(int64_t size) {
  return (size + kStackPad - 1) / kStackPad * kStackPad;
}

/// y = x W^T + bias, with W^T [in, stack_padded(out)].
struct StackMatrix {
  const float* transposed = nullptr;
  const float* bias = nullptr;  // [out]; null = none
  int64_t in = 0, out = 0;
};

/// RMS norm, or layer norm where there is a bias.
struct StackNorm {
  const float* weight = nullptr;
  const float* bias = nullptr;
};

enum class StackActivation { kSilu, kGeluTanh, kGelu, kRelu };

struct StackLayer {
  StackNorm attention_norm, mlp_norm;
  const float *query_norm = nullptr, *key_norm = nullptr;  // [head_dim]; null = none
  StackMatrix qkv, attention_output, up, down;             // up: gate and up when gated
  AttentionShape shape;
  /// [blocks, kv_heads, head_dim, kStackBlock] and [blocks, kv_heads, kStackBlock, head_dim].
  float *keys = nullptr, *values = nullptr;
};

struct DecoderStack {
  int64_t hidden = 0, intermediate = 0, vocab = 0;
  bool gated = true;
  StackActivation activation = StackActivation::kSilu;
  float norm_eps = 0;
  const float* embedding = nullptr;            // [vocab, hidden]
  const float* position_table = nullptr;       // [positions, hidden]; null = none
  const float *cos = nullptr, *sin = nullptr;  // [positions, head_dim/2]; null = no rotation
  StackNorm final_norm;
  StackMatrix head;
  std::vector<StackLayer> layers;

  /// Elements of one block of one layer's keys (or values).
  int64_t block_elements() const {
    const AttentionShape& shape = layers.front().shape;
    return shape.kv_heads * shape.head_dim * kStackBlock;
  }
};

/// Row r feeds tokens[r] at positions[r] and reads the cache blocks in its row of `table`. Rows of
/// one sequence may come together, in order.
struct StackRows {
  int64_t rows = 0;
  const int64_t *tokens = nullptr, *positions = nullptr;
  const int32_t* table = nullptr;
  int64_t table_stride = 0;  // 0: one row of blocks for all
};

/// How each row of a step is sampled, and what came of it.
struct StackDraw {
  SamplingRule rule;
  int64_t seed = 0;
  const int64_t* keys = nullptr;                       // [rows,3] prompt, sample, position
  const RowEdits* edits = nullptr;                     // [rows]; null = none
  int64_t* tokens = nullptr;                           // [rows]
  float *logprobs = nullptr, *raw_logprobs = nullptr;  // [rows]
  bool* valid = nullptr;  // [rows] false: logits that cannot be sampled from
};

/// Buffers of one thread, for any call within `context` positions.
class StackScratch {
 public:
  StackScratch(const DecoderStack& stack, int64_t context);

  std::vector<float> x, normed, qkv, attended, up, activated, logits;  // kStackRows rows each
  std::vector<float> query, scores;                                    // of one key/value head
  SampleScratch<float> sample;
};

/// The next token of every row; rows are shared out among the threads, each with its own scratch
/// (at least at::get_num_threads() of them).
void stack_decode(const DecoderStack& stack, const StackRows& rows, const StackDraw& draw,
                  std::vector<StackScratch>& scratch);

/// Fills the cache from prompts, one item a prompt; tokens of a prompt go through in pieces of
/// kStackRows, so memory does not depend on its length.
void stack_prefill(const DecoderStack& stack, const std::vector<StackRows>& prompts,
                   std::vector<StackScratch>& scratch);

}  // namespace hone::kernels
