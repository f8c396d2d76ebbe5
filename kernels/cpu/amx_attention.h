#pragma once

// Packed attention whose products run in the cores' matrix unit, on queries and keys that are
// turned to their positions already: what block_input_rows gives. Operands of products are
// bfloat16, sums float32. An item is all query heads of one key/value head in one sequence, as in
// cpu/attention_item.h. Callers ask amx_usable() first.

#include <cstdint>

namespace hone::kernels {

/// Scores come in units of 1 / kScoreUnit: e^s = 2^(kScoreUnit * s), which is cheaper.
constexpr float kScoreUnit = 1.44269504088896341F;

struct AmxAttentionTask {
  int64_t heads, kv_heads, head_dim;  // head_dim a multiple of 8
  int64_t window;                     // as in AttentionShape
  const int64_t* cu;                  // [B+1]
  const uint16_t* qkv;                // [N,width], queries scaled and in units
  uint16_t* out;                      // [N,heads*head_dim]; forward writes, backward reads
  float* lse;                         // [heads,N] log-sum-exp of the scores; likewise
  const uint16_t* grad;               // [N,heads*head_dim], backward only
  /// [N,width], backward only; of the turned rows: queries' want the scale, keys' 1 / kScoreUnit.
  float* d_qkv;
  int64_t tokens;
};

void amx_attention_forward_item(const AmxAttentionTask& task, int64_t sequence, int64_t kv_head);
void amx_attention_backward_item(const AmxAttentionTask& task, int64_t sequence, int64_t kv_head);

}  // namespace hone::kernels
