#pragma once

// The one list of model families. A family is a row: what its config.json and its checkpoint call
// things and which of the block's switches are on.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace hone::engine {

/// Far above any model of today; a config.json with more would cost memory before it is refused.
constexpr int64_t kMostLayers = 4096;

/// Checkpoint names; `{}` stands for the number of the layer. Projections get ".weight" and, where
/// they have one, ".bias"; so do layer norms. Null: the family has no such tensor.
struct CheckpointNames {
  const char* embedding;
  const char* positions;
  const char* final_norm;
  const char* lm_head;
  const char* scalar_head;
  const char* attention_norm;
  const char* query;  // of q, k and v together when key is null
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

/// Names of config.json's fields that families do not share. Null: the family has no such field.
struct ConfigNames {
  const char* hidden_size;
  const char* intermediate_size;
  const char* layers;
  const char* heads;
  const char* kv_heads;
  const char* head_dim;
  const char* max_positions;
  const char* norm_eps;
  const char* activation;
};

enum class Bias { kNever, kAlways, kByConfig };       // by attention_bias or mlp_bias
enum class Window { kNever, kEveryLayer, kByLayer };  // layers that sliding_window is for
enum class Activation { kSilu, kGeluTanh, kGelu, kRelu };

/// A name that config.json may give to an activation.
struct ActivationName {
  const char* name;
  Activation activation;
};

struct Family {
  const char* name;        // model_type of config.json
  const char* lm_class;    // architecture written for a language model
  const char* classifier;  // and for a model with a scalar head
  const char* prefix;      // of every tensor but the heads; checkpoints of bare models leave it off
  bool layer_norm;         // LayerNorm with bias, else RMS norm
  bool learned_positions;  // an embedding per position, else rotary
  bool gated;              // down(act(gate) * up), else down(act(up))
  bool transposed;         // projections are stored [in, out]
  bool heads_divide;       // transformers refuses a hidden size that heads do not divide
  bool qk_norm;            // RMS norm per head on q and k, before the rotation
  Bias qkv_bias, output_bias, mlp_bias;
  Window window;
  std::vector<ActivationName> activations;  // the first one is the default
  // What transformers takes when config.json does not say; 0 = all heads, hidden_size / heads,
  // 4 * hidden_size (null means the same), and no default for max_positions.
  int64_t default_kv_heads;
  int64_t default_head_dim;
  double default_norm_eps;
  bool default_tied;
  /// Tensors that old checkpoints hold besides parameters: constants that code rebuilds.
  std::vector<const char*> ignored_suffixes;
  ConfigNames fields;
  CheckpointNames names;
};

const std::vector<Family>& families();
/// "gpt2, llama, ...".
std::string family_names();
/// Row of `name`; InputError names `where`, the family and the known ones.
const Family& find_family(std::string_view name, const std::string& where);
/// By its name in config.json; empty = the family's first. InputError names the known ones.
Activation find_activation(const Family& family, const std::string& name, const std::string& where);
/// `pattern` with the layer number in place of {}.
std::string layer_name(const char* pattern, int64_t layer);

}  // namespace hone::engine
