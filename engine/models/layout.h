#pragma once

// Which parameters a model has and how they lie in its arena: matrices first (weight decay is then
// one range), vectors after; q, k, v are one matrix and so are gate and up.

#include <cstdint>
#include <string>
#include <vector>

#include "engine/models/causal_lm.h"
#include "engine/models/families.h"

namespace hone::engine {

/// Leaf indices of a weight and its bias; -1 = the model has none.
struct LeafPair {
  int64_t weight = -1, bias = -1;
};

struct BlockLayout {
  LeafPair qkv, attention_output, up, down;  // up holds gate and up of a gated family
  LeafPair attention_norm, mlp_norm, query_norm, key_norm;
};

struct ModelLayout {
  int64_t embedding = -1, positions = -1, lm_head = -1, scalar_head = -1;
  LeafPair final_norm;
  std::vector<BlockLayout> blocks;
};

/// Declares every leaf in `arena` without allocating anything. `config` has to be valid.
ModelLayout declare_parameters(const ModelConfig& config, HeadKind head, ParameterArena& arena);

}  // namespace hone::engine
