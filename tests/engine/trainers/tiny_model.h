#pragma once

#include <cstdint>
#include <memory>

#include "engine/models/causal_lm.h"

namespace hone::test {

/// A two-layer Llama of 16 tokens, random weights.
inline std::unique_ptr<engine::CausalLM> tiny_model(engine::HeadKind head, at::ScalarType dtype,
                                                    uint64_t seed, double range = 0.1) {
  engine::ModelConfig config;
  config.family = "llama";
  config.vocab_size = 16;
  config.hidden_size = 32;
  config.intermediate_size = 48;
  config.layers = 2;
  config.heads = 4;
  config.kv_heads = 2;
  config.head_dim = 8;
  config.max_positions = 64;
  config.tie_embeddings = true;
  config.initializer_range = range;
  auto model = std::make_unique<engine::CausalLM>(config, head, dtype);
  model->initialize(seed);
  return model;
}

}  // namespace hone::test
