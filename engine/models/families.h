#pragma once

// The one list of model families. A family is a row: what its checkpoint calls things and which of
// the block's switches are on.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace hone::engine {

/// Checkpoint names; `{}` stands for the number of the layer.
struct CheckpointNames {
  const char* embedding;
  const char* final_norm;
  const char* lm_head;
  const char* scalar_head;
  const char* attention_norm;
  const char* query;  // ".weight" and, with qkv_bias, ".bias" are appended
  const char* key;
  const char* value;
  const char* attention_output;
  const char* query_norm;
  const char* key_norm;
  const char* mlp_norm;
  const char* gate;
  const char* up;
  const char* down;
};

struct Family {
  const char* name;        // model_type of config.json
  const char* lm_class;    // architecture written for a language model
  const char* classifier;  // and for a model with a scalar head
  bool qkv_bias;           // bias on the q, k and v projections
  bool qk_norm;            // RMS norm per head on q and k, before the rotation
  bool window_by_default;  // config's sliding_window counts without use_sliding_window
  // What transformers takes when config.json does not say; 0 = all heads, hidden_size / heads.
  int64_t default_kv_heads;
  int64_t default_head_dim;
  double default_norm_eps;
  CheckpointNames names;
};

const std::vector<Family>& families();
/// Row of `name`; InputError names `where`, the family and the known ones.
const Family& find_family(std::string_view name, const std::string& where);
/// `pattern` with the layer number in place of {}.
std::string layer_name(const char* pattern, int64_t layer);

}  // namespace hone::engine
