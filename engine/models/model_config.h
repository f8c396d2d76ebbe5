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
  double norm_eps = 1e-5;
  double rope_theta = 10000.0;
  std::string rope_scaling = "none";  // none, linear, llama3
  double rope_factor = 1.0, rope_low_freq_factor = 1.0, rope_high_freq_factor = 4.0;
  int64_t rope_original_positions = 0;
  int64_t sliding_window = 0;  // 0 = none
  bool tie_embeddings = false;
  double initializer_range = 0.02;
  int64_t bos_id = -1, eos_id = -1, pad_id = -1;  // -1 = none
  std::vector<int64_t> eos_ids;                   // every id that ends a text

  /// Reads config.json (text of it; `where` names the file in errors). Unknown families and fields
  /// that would change the numbers are InputErrors.
  static ModelConfig from_json(const std::string& text, const std::string& where);
  /// config.json that transformers loads; `classifier`: LlamaForSequenceClassification, 1 label.
  std::string to_json(bool classifier) const;
  /// Sizes that cannot be (heads not dividing, zero, negative): InputError naming field.
  void validate(const std::string& where) const;
  int64_t parameter_count() const;
};

}  // namespace hone::engine
