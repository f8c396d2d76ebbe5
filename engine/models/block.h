#pragma once

// The weights of one transformer block and the projection every family shares.

#include <ATen/core/Tensor.h>

#include "engine/models/layout.h"
#include "kernels/ops.h"

namespace hone::engine {

/// Handles of the arena's leaves; an undefined tensor is a part that the family does not have.
struct TransformerBlock {
  TransformerBlock(const BlockLayout& layout, const ParameterArena& arena);

  at::Tensor qkv, attention_output, gate_up, down;  // [q+2kv,H] [H,q] [2F,H] [H,F]
  at::Tensor attention_norm, mlp_norm;              // [H]
  at::Tensor qkv_bias;                              // [q+2kv]
  at::Tensor query_norm, key_norm;                  // [head_dim]

  /// Normed input [N,H] -> q, k, v side by side [N, q+2kv], with bias and q/k norm if any.
  at::Tensor project(const at::Tensor& x, const ModelConfig& config) const;
};

kernels::AttentionOptions attention_options(const ModelConfig& config);

}  // namespace hone::engine
