#pragma once

// Which parameters a model has and how they lie in its arena: matrices first (weight decay is then
// one range), vectors after; q, k, v are one matrix and so are gate and up.

#include <cstdint>
#include <vector>

#include "engine/models/causal_lm.h"

namespace hone::engine {

/// Leaf indices; -1 = the model has none.
struct BlockLayout {
  int64_t qkv = -1, attention_output = -1, gate_up = -1, down = -1;
  int64_t attention_norm = -1, mlp_norm = -1;
  int64_t qkv_bias = -1, query_norm = -1, key_norm = -1;
};

struct ModelLayout {
  int64_t embedding = -1, lm_head = -1, scalar_head = -1, final_norm = -1;
  std::vector<BlockLayout> blocks;
};

/// Declares every leaf in `arena` without allocating anything.
ModelLayout declare_parameters(const ModelConfig& config, HeadKind head, ParameterArena& arena);

}  // namespace hone::engine
