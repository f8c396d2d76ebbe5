#include "engine/models/layout.h"

#include <string>

#include "engine/models/families.h"

namespace hone::engine {

ModelLayout declare_parameters(const ModelConfig& config, HeadKind head, ParameterArena& arena) {
  const Family& family = find_family(config.family, "model");
  const CheckpointNames& names = family.names;
  const int64_t hidden = config.hidden_size, inner = config.intermediate_size;
  const int64_t query = config.heads * config.head_dim, key = config.kv_heads * config.head_dim;
  ModelLayout layout;
  layout.blocks.resize(static_cast<size_t>(config.layers));

  layout.embedding =
      arena.add_leaf({{names.embedding, {config.vocab_size, hidden}}}, /*decay=*/true, false);
  if (head == HeadKind::kScalar) {
    layout.scalar_head = arena.add_leaf({{names.scalar_head, {1, hidden}}}, true, false);
  } else if (!config.tie_embeddings) {
    layout.lm_head = arena.add_leaf({{names.lm_head, {config.vocab_size, hidden}}}, true, false);
  }
  for (int64_t i = 0; i < config.layers; ++i) {
    BlockLayout& block = layout.blocks[static_cast<size_t>(i)];
    const auto matrix = [&](const char* pattern, const char* suffix = "") {
      return layer_name(pattern, i) + suffix;
    };
    block.qkv = arena.add_leaf({{matrix(names.query, ".weight"), {query, hidden}},
                                {matrix(names.key, ".weight"), {key, hidden}},
                                {matrix(names.value, ".weight"), {key, hidden}}},
                               true, /*in_block=*/true);
    block.attention_output =
        arena.add_leaf({{matrix(names.attention_output), {hidden, query}}}, true, true);
    block.gate_up = arena.add_leaf(
        {{matrix(names.gate), {inner, hidden}}, {matrix(names.up), {inner, hidden}}}, true, true);
    block.down = arena.add_leaf({{matrix(names.down), {hidden, inner}}}, true, true);
  }
  for (int64_t i = 0; i < config.layers; ++i) {
    BlockLayout& block = layout.blocks[static_cast<size_t>(i)];
    const auto vector = [&](const char* pattern, int64_t size) {
      return arena.add_leaf({{layer_name(pattern, i), {size}}}, /*decay=*/false, false);
    };
    block.attention_norm = vector(names.attention_norm, hidden);
    block.mlp_norm = vector(names.mlp_norm, hidden);
    if (family.qkv_bias) {
      block.qkv_bias = arena.add_leaf({{layer_name(names.query, i) + ".bias", {query}},
                                       {layer_name(names.key, i) + ".bias", {key}},
                                       {layer_name(names.value, i) + ".bias", {key}}},
                                      false, false);
    }
    if (family.qk_norm) {
      block.query_norm = vector(names.query_norm, config.head_dim);
      block.key_norm = vector(names.key_norm, config.head_dim);
    }
  }
  layout.final_norm = arena.add_leaf({{names.final_norm, {hidden}}}, false, false);
  return layout;
}

}  // namespace hone::engine
