#include "engine/models/model_config.h"

#include "data/error.h"
#include "engine/models/families.h"

namespace hone::engine {
namespace {

// Far above any model of today; keeps products of sizes inside int64.
constexpr int64_t kLargestSize = int64_t{1} << 24;
constexpr int64_t kMostLayers = 4096;

void check_range(const std::string& where, const char* field, int64_t value, int64_t low,
                 int64_t high) {
  if (value < low || value > high) {
    throw data::InputError(where, field, std::to_string(low) + " to " + std::to_string(high),
                           std::to_string(value));
  }
}

void check_token(const std::string& where, const char* field, int64_t id, int64_t vocab_size) {
  if (id != -1) check_range(where, field, id, 0, vocab_size - 1);
}

}  // namespace

void ModelConfig::validate(const std::string& where) const {
  find_family(family, where);
  check_range(where, "vocab_size", vocab_size, 1, kLargestSize);
  check_range(where, "hidden_size", hidden_size, 1, kLargestSize);
  check_range(where, "intermediate_size", intermediate_size, 1, kLargestSize);
  check_range(where, "num_hidden_layers", layers, 1, kMostLayers);
  check_range(where, "num_attention_heads", heads, 1, kLargestSize);
  check_range(where, "num_key_value_heads", kv_heads, 1, heads);
  check_range(where, "head_dim", head_dim, 2, 4096);
  check_range(where, "max_position_embeddings", max_positions, 1, int64_t{1} << 31);
  check_range(where, "sliding_window", sliding_window, 0, int64_t{1} << 31);
  if (heads % kv_heads != 0) {
    throw data::InputError(where, "num_attention_heads",
                           "a multiple of num_key_value_heads = " + std::to_string(kv_heads),
                           std::to_string(heads));
  }
  if (head_dim % 2 != 0) {
    throw data::InputError(where, "head_dim", "an even number (rotary pairs)",
                           std::to_string(head_dim));
  }
  if (!(norm_eps > 0.0 && norm_eps < 1.0)) {
    throw data::InputError(where, "rms_norm_eps", "between 0 and 1", std::to_string(norm_eps));
  }
  if (!(rope_theta > 0.0)) {
    throw data::InputError(where, "rope_theta", "above 0", std::to_string(rope_theta));
  }
  if (rope_scaling != "none" && !(rope_factor > 0.0)) {
    throw data::InputError(where, "rope_scaling.factor", "above 0", std::to_string(rope_factor));
  }
  if (rope_scaling == "llama3") {
    check_range(where, "rope_scaling.original_max_position_embeddings", rope_original_positions, 1,
                int64_t{1} << 31);
    if (!(rope_low_freq_factor > 0.0 && rope_high_freq_factor > rope_low_freq_factor)) {
      throw data::InputError(where, "rope_scaling.high_freq_factor",
                             "above low_freq_factor = " + std::to_string(rope_low_freq_factor),
                             std::to_string(rope_high_freq_factor));
    }
  }
  if (!(initializer_range >= 0.0 && initializer_range < 1e6)) {
    throw data::InputError(where, "initializer_range", "0 or more",
                           std::to_string(initializer_range));
  }
  check_token(where, "bos_token_id", bos_id, vocab_size);
  check_token(where, "eos_token_id", eos_id, vocab_size);
  check_token(where, "pad_token_id", pad_id, vocab_size);
  for (const int64_t id : eos_ids) check_range(where, "eos_token_id", id, 0, vocab_size - 1);
}

int64_t ModelConfig::parameter_count() const {
  const Family& row = find_family(family, "model");
  const int64_t query = heads * head_dim, key = kv_heads * head_dim;
  int64_t block =
      (2 * query + 2 * key) * hidden_size + 3 * intermediate_size * hidden_size + 2 * hidden_size;
  if (row.qkv_bias) block += query + 2 * key;
  if (row.qk_norm) block += 2 * head_dim;
  return vocab_size * hidden_size * (tie_embeddings ? 1 : 2) + layers * block + hidden_size;
}

}  // namespace hone::engine
