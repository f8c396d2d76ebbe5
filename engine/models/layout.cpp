#include "engine/models/layout.h"

#include <utility>

namespace hone::engine {
namespace {

using Slices = std::vector<std::pair<std::string, std::vector<int64_t>>>;

/// Rows of a projection and the checkpoint's name for them; several stack.
struct Part {
  const char* name;
  int64_t rows;
};

class Declaration {
 public:
  Declaration(const ModelConfig& config, ParameterArena& arena)
      : config_(config), family_(find_family(config.family, "model")), arena_(arena) {}

  std::vector<Part> qkv() const {
    const CheckpointNames& names = family_.names;
    const int64_t query = config_.heads * config_.head_dim;
    const int64_t key = config_.kv_heads * config_.head_dim;
    if (names.key == nullptr) return {{names.query, query + 2 * key}};
    return {{names.query, query}, {names.key, key}, {names.value, key}};
  }
  std::vector<Part> up() const {
    const int64_t inner = config_.intermediate_size;
    if (!family_.gated) return {{family_.names.up, inner}};
    return {{family_.names.gate, inner}, {family_.names.up, inner}};
  }

  int64_t table(const char* name, int64_t rows) {
    return arena_.add_leaf({{name, {rows, config_.hidden_size}}}, /*decay=*/true,
                           /*block=*/-1);
  }
  int64_t matrix(const std::vector<Part>& parts, int64_t columns, int64_t layer) {
    Slices slices;
    for (const Part& part : parts) {
      slices.push_back({layer_name(part.name, layer) + ".weight", {part.rows, columns}});
    }
    return arena_.add_leaf(slices, /*decay=*/true, layer, family_.transposed);
  }
  int64_t vector(const std::vector<Part>& parts, int64_t layer, const char* suffix) {
    Slices slices;
    for (const Part& part : parts) {
      slices.push_back({layer_name(part.name, layer) + suffix, {part.rows}});
    }
    return arena_.add_leaf(slices, /*decay=*/false, /*block=*/-1);
  }
  int64_t bias(Bias kind, bool by_config, const std::vector<Part>& parts, int64_t layer) {
    const bool present = kind == Bias::kAlways || (kind == Bias::kByConfig && by_config);
    return present ? vector(parts, layer, ".bias") : -1;
  }
  LeafPair norm(const char* name, int64_t size, int64_t layer, bool layer_norm) {
    LeafPair pair;
    pair.weight = vector({{name, size}}, layer, ".weight");
    if (layer_norm) pair.bias = vector({{name, size}}, layer, ".bias");
    return pair;
  }

  void matrices(BlockLayout& block, int64_t layer) {
    const CheckpointNames& names = family_.names;
    const int64_t hidden = config_.hidden_size;
    block.qkv.weight = matrix(qkv(), hidden, layer);
    block.attention_output.weight =
        matrix({{names.attention_output, hidden}}, config_.heads * config_.head_dim, layer);
    block.up.weight = matrix(up(), hidden, layer);
    block.down.weight = matrix({{names.down, hidden}}, config_.intermediate_size, layer);
  }
  void vectors(BlockLayout& block, int64_t layer) {
    const CheckpointNames& names = family_.names;
    const int64_t hidden = config_.hidden_size;
    block.attention_norm = norm(names.attention_norm, hidden, layer, family_.layer_norm);
    block.mlp_norm = norm(names.mlp_norm, hidden, layer, family_.layer_norm);
    block.qkv.bias = bias(family_.qkv_bias, config_.attention_bias, qkv(), layer);
    block.attention_output.bias = bias(family_.output_bias, config_.attention_bias,
                                       {{names.attention_output, hidden}}, layer);
    block.up.bias = bias(family_.mlp_bias, config_.mlp_bias, up(), layer);
    block.down.bias = bias(family_.mlp_bias, config_.mlp_bias, {{names.down, hidden}}, layer);
    if (family_.qk_norm) {
      block.query_norm = norm(names.query_norm, config_.head_dim, layer, false);
      block.key_norm = norm(names.key_norm, config_.head_dim, layer, false);
    }
  }

 private:
  const ModelConfig& config_;
  const Family& family_;
  ParameterArena& arena_;
};

}  // namespace

ModelLayout declare_parameters(const ModelConfig& config, HeadKind head, ParameterArena& arena) {
  const Family& family = find_family(config.family, "model");
  Declaration declare(config, arena);
  ModelLayout layout;
  layout.blocks.resize(static_cast<size_t>(config.layers));
  layout.embedding = declare.table(family.names.embedding, config.vocab_size);
  if (family.learned_positions) {
    layout.positions = declare.table(family.names.positions, config.max_positions);
  }
  if (head == HeadKind::kScalar) {
    layout.scalar_head = declare.table(family.names.scalar_head, 1);
  } else if (!config.tie_embeddings) {
    layout.lm_head = declare.table(family.names.lm_head, config.vocab_size);
  }
  for (int64_t i = 0; i < config.layers; ++i) {
    declare.matrices(layout.blocks[static_cast<size_t>(i)], i);
  }
  for (int64_t i = 0; i < config.layers; ++i) {
    declare.vectors(layout.blocks[static_cast<size_t>(i)], i);
  }
  layout.final_norm =
      declare.norm(family.names.final_norm, config.hidden_size, 0, family.layer_norm);
  return layout;
}

int64_t ModelConfig::parameter_count() const {
  ParameterArena declared;
  declare_parameters(*this, HeadKind::kLanguageModel, declared);
  int64_t count = 0;
  for (const ParameterSlice& slice : declared.slices()) count += slice.numel;
  return count;
}

}  // namespace hone::engine
