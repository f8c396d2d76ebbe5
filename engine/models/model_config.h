#pragma once

// One description for every family; families differ by a row of engine/models/families.cpp.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace hone::engine {

struct ModelConfig {
  std::string family = "llama";
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t max_positions = 0;
  std::string activation;  // as config.json names it; empty = the family's own
  double norm_eps = 1e-5;
  double rope_theta = 10000.0;
  std::string rope_scaling = "none";  // none, linear, llama3
  double rope_factor = 1.0, rope_low_freq_factor = 1.0, rope_high_freq_factor = 4.0;
  int64_t rope_original_positions = 0;
  int64_t sliding_window = 0;         // 0 = none
  std::vector<bool> windowed_layers;  // which layers have the window; empty = all
  bool attention_bias = false;        // of a family that leaves it to the config
  bool mlp_bias = false;
  bool scale_attention = true;          // scores / sqrt(head_dim)
  bool scale_by_inverse_layer = false;  // scores / (layer + 1) as well
  bool tie_embeddings = false;
  double initializer_range = 0.02;
  int64_t bos_id = -1, eos_id = -1, pad_id = -1;  // -1 = none
  std::vector<int64_t> eos_ids;                   // every id that ends a text
  /// The checkpoint's tensors lack the family's prefix ("transformer.", "model."), as those of a
  /// bare model do; a tied language model is written back the same way.
  bool bare_names = false;

  /// Reads config.json (text of it; `where` names the file in errors). Unknown families and fields
  /// that would change the numbers are InputErrors.
  static ModelConfig from_json(const std::string& text, const std::string& where);
  /// config.json that transformers loads; `classifier`: LlamaForSequenceClassification, 1 label.
  /// `dtype` is the type of the stored weights as torch names it.
  std::string to_json(bool classifier, const std::string& dtype = "float32") const;
  /// Sizes that cannot be (heads not dividing, zero, negative): InputError naming field.
  void validate(const std::string& where) const;
  int64_t parameter_count() const;

  int64_t window(int64_t layer) const;          // tokens that a layer sees; 0 = all before
  double attention_scale(int64_t layer) const;  // factor of the scores
  /// Elements of a head in attention and in the cache: head_dim, made even (rotary pairs).
  int64_t attention_head_dim() const { return head_dim + head_dim % 2; }
  /// Bytes in float32 that a token of a forward pass leaves for the backward pass.
  double activation_bytes() const;
};

}  // namespace hone::engine
