// config.json as transformers 4 and 5 read it: writing.

#include <algorithm>
#include <nlohmann/json.hpp>

#include "engine/models/families.h"
#include "engine/models/model_config.h"

namespace hone::engine {
namespace {

using nlohmann::json;

json token(int64_t id) { return id < 0 ? json(nullptr) : json(id); }

void write_rope(const ModelConfig& config, json& root) {
  root["rope_theta"] = config.rope_theta;
  root["rope_scaling"] = nullptr;
  if (config.rope_scaling == "none") return;
  json& scaling = root["rope_scaling"];
  scaling = {{"rope_type", config.rope_scaling}, {"factor", config.rope_factor}};
  if (config.rope_scaling != "llama3") return;
  scaling["low_freq_factor"] = config.rope_low_freq_factor;
  scaling["high_freq_factor"] = config.rope_high_freq_factor;
  scaling["original_max_position_embeddings"] = config.rope_original_positions;
}

void write_window(const ModelConfig& config, const Family& family, json& root) {
  if (family.window == Window::kNever) return;
  const json size = token(config.sliding_window > 0 ? config.sliding_window : -1);
  if (family.window == Window::kEveryLayer) {
    root["sliding_window"] = size;
    return;
  }
  root["use_sliding_window"] = config.sliding_window > 0;
  if (config.sliding_window == 0) return;
  root["sliding_window"] = size;
  json types = json::array();
  for (int64_t i = 0; i < config.layers; ++i) {
    types.push_back(config.window(i) > 0 ? "sliding_attention" : "full_attention");
  }
  root["layer_types"] = types;
  // For readers that know no layer_types: the first layer from which on all have the window.
  int64_t first = config.layers;
  while (first > 0 && config.window(first - 1) > 0) --first;
  root["max_window_layers"] = first;
}

void write_classifier(const ModelConfig& config, json& root) {
  root["id2label"] = {{"0", "LABEL_0"}};
  root["label2id"] = {{"LABEL_0", 0}};
  // transformers scores the last token that is not padding, and refuses batches without a
  // padding id; an end token must not be taken for padding, so an unused id stands in.
  const auto ends = [&](int64_t id) {
    return std::find(config.eos_ids.begin(), config.eos_ids.end(), id) != config.eos_ids.end();
  };
  const int64_t pad = config.pad_id;
  for (int64_t id = 0; (pad < 0 || ends(pad)) && id < config.vocab_size; ++id) {
    if (id == config.bos_id || ends(id)) continue;
    root["pad_token_id"] = id;
    break;
  }
}

}  // namespace

std::string ModelConfig::to_json(bool classifier, const std::string& dtype) const {
  const Family& row = find_family(family, "model");
  const ConfigNames& names = row.fields;
  json root = {{"architectures", {classifier ? row.classifier : row.lm_class}},
               {"model_type", family},
               {"vocab_size", vocab_size},
               {names.hidden_size, hidden_size},
               {names.intermediate_size, intermediate_size},
               {names.layers, layers},
               {names.heads, heads},
               {names.max_positions, max_positions},
               {names.norm_eps, norm_eps},
               {names.activation, activation.empty() ? row.activations.front().name : activation},
               {"initializer_range", initializer_range},
               {"tie_word_embeddings", tie_embeddings},
               {"bos_token_id", token(bos_id)},
               {"eos_token_id", eos_ids.size() > 1 ? json(eos_ids) : token(eos_id)},
               {"pad_token_id", token(pad_id)},
               {"use_cache", true},
               {"torch_dtype", dtype}};
  if (names.kv_heads != nullptr) root[names.kv_heads] = kv_heads;
  if (names.head_dim != nullptr) root[names.head_dim] = head_dim;
  if (row.qkv_bias == Bias::kByConfig) root["attention_bias"] = attention_bias;
  if (row.mlp_bias == Bias::kByConfig) root["mlp_bias"] = mlp_bias;
  if (row.learned_positions) {
    root["scale_attn_weights"] = scale_attention;
    root["scale_attn_by_inverse_layer_idx"] = scale_by_inverse_layer;
  } else {
    root["attention_dropout"] = 0.0;
    write_rope(*this, root);
  }
  write_window(*this, row, root);
  if (classifier) write_classifier(*this, root);
  return root.dump(2) + "\n";
}

}  // namespace hone::engine
