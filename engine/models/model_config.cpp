#include "engine/models/model_config.h"

#include <cmath>

#include "data/error.h"
#include "engine/models/families.h"

namespace hone::engine {
namespace {

using data::InputError;

// Far above any model of today; keep products and sums of sizes inside int64.
constexpr int64_t kMostTokens = int64_t{1} << 24;
constexpr int64_t kWidest = int64_t{1} << 20;
constexpr int64_t kWidestInner = int64_t{1} << 22;
constexpr int64_t kMostPositions = int64_t{1} << 31;

void check_range(const std::string& where, const std::string& field, int64_t value, int64_t low,
                 int64_t high) {
  if (value < low || value > high) {
    throw InputError(where, field, std::to_string(low) + " to " + std::to_string(high),
                     std::to_string(value));
  }
}

void check_token(const std::string& where, const char* field, int64_t id, int64_t vocab_size) {
  if (id != -1) check_range(where, field, id, 0, vocab_size - 1);
}

std::string named(const char* field, const char* otherwise) {
  return field != nullptr ? field : otherwise;
}

void check_sizes(const ModelConfig& config, const Family& family, const std::string& where) {
  const ConfigNames& fields = family.fields;
  const std::string heads = fields.heads, head_dim = named(fields.head_dim, "size of a head");
  check_range(where, "vocab_size", config.vocab_size, 1, kMostTokens);
  check_range(where, fields.hidden_size, config.hidden_size, 1, kWidest);
  check_range(where, fields.intermediate_size, config.intermediate_size, 1, kWidestInner);
  check_range(where, fields.layers, config.layers, 1, kMostLayers);
  check_range(where, heads, config.heads, 1, kWidest);
  check_range(where, named(fields.kv_heads, "key/value heads"), config.kv_heads, 1, config.heads);
  check_range(where, head_dim, config.head_dim, 1, 4096);
  check_range(where, heads + " * " + head_dim, config.heads * config.head_dim, 1, kWidest);
  if (family.heads_divide && config.hidden_size % config.heads != 0) {
    throw InputError(where, heads,
                     "a divisor of " + std::string(fields.hidden_size) + " = " +
                         std::to_string(config.hidden_size),
                     std::to_string(config.heads));
  }
  // One fused projection of the stream's own width.
  if (family.names.key == nullptr &&
      (config.kv_heads != config.heads || config.heads * config.head_dim != config.hidden_size)) {
    throw InputError(
        where, heads, "heads of size " + std::string(fields.hidden_size) + " / " + heads,
        std::to_string(config.kv_heads) + " key/value heads of " + std::to_string(config.head_dim));
  }
  // A table of positions is memory, a limit of rotary positions is not.
  check_range(where, fields.max_positions, config.max_positions, 1,
              family.learned_positions ? kMostTokens : kMostPositions);
  if (config.heads % config.kv_heads != 0) {
    throw InputError(where, heads,
                     "a multiple of " + named(fields.kv_heads, "key/value heads") + " = " +
                         std::to_string(config.kv_heads),
                     std::to_string(config.heads));
  }
  if (!family.learned_positions && config.head_dim % 2 != 0) {
    throw InputError(where, head_dim, "an even number (rotary pairs)",
                     std::to_string(config.head_dim));
  }
  if (!(config.norm_eps > 0.0 && config.norm_eps < 1.0)) {
    throw InputError(where, fields.norm_eps, "between 0 and 1", std::to_string(config.norm_eps));
  }
}

void check_rope(const ModelConfig& config, const std::string& where) {
  if (!(config.rope_theta > 0.0)) {
    throw InputError(where, "rope_theta", "above 0", std::to_string(config.rope_theta));
  }
  if (config.rope_scaling != "none" && !(config.rope_factor > 0.0)) {
    throw InputError(where, "rope_scaling.factor", "above 0", std::to_string(config.rope_factor));
  }
  if (config.rope_scaling != "llama3") return;
  check_range(where, "rope_scaling.original_max_position_embeddings",
              config.rope_original_positions, 1, kMostPositions);
  if (!(config.rope_low_freq_factor > 0.0 &&
        config.rope_high_freq_factor > config.rope_low_freq_factor)) {
    throw InputError(where, "rope_scaling.high_freq_factor",
                     "above low_freq_factor = " + std::to_string(config.rope_low_freq_factor),
                     std::to_string(config.rope_high_freq_factor));
  }
}

}  // namespace

void ModelConfig::validate(const std::string& where) const {
  const Family& row = find_family(family, where);
  check_sizes(*this, row, where);
  find_activation(row, activation, where);
  check_rope(*this, where);
  check_range(where, "sliding_window", sliding_window, 0, kMostPositions);
  if (!windowed_layers.empty() && static_cast<int64_t>(windowed_layers.size()) != layers) {
    throw InputError(where, "layer_types", std::to_string(layers) + " layers",
                     std::to_string(windowed_layers.size()));
  }
  if (!(initializer_range >= 0.0 && initializer_range < 1e6)) {
    throw InputError(where, "initializer_range", "0 or more", std::to_string(initializer_range));
  }
  check_token(where, "bos_token_id", bos_id, vocab_size);
  check_token(where, "eos_token_id", eos_id, vocab_size);
  check_token(where, "pad_token_id", pad_id, vocab_size);
  for (const int64_t id : eos_ids) check_range(where, "eos_token_id", id, 0, vocab_size - 1);
}

int64_t ModelConfig::window(int64_t layer) const {
  const bool windowed = windowed_layers.empty() || windowed_layers[static_cast<size_t>(layer)];
  return windowed ? sliding_window : 0;
}

double ModelConfig::attention_scale(int64_t layer) const {
  const double scale = scale_attention ? 1.0 / std::sqrt(static_cast<double>(head_dim)) : 1.0;
  return scale_by_inverse_layer ? scale / static_cast<double>(layer + 1) : scale;
}

double ModelConfig::activation_bytes() const {
  const int64_t qkv = (heads + 2 * kv_heads) * head_dim, mixed = heads * head_dim;
  // Input, two normed inputs, the middle of the block; qkv and what attention makes of them; gate,
  // up and their product.
  const int64_t block = 4 * hidden_size + qkv + mixed + 3 * intermediate_size;
  return static_cast<double>(sizeof(float)) * static_cast<double>(layers * block + 2 * hidden_size);
}

}  // namespace hone::engine
