#include "engine/models/families.h"

#include "data/error.h"

namespace hone::engine {
namespace {

constexpr CheckpointNames kLlamaNames = {
    .embedding = "model.embed_tokens.weight",
    .final_norm = "model.norm.weight",
    .lm_head = "lm_head.weight",
    .scalar_head = "score.weight",
    .attention_norm = "model.layers.{}.input_layernorm.weight",
    .query = "model.layers.{}.self_attn.q_proj",
    .key = "model.layers.{}.self_attn.k_proj",
    .value = "model.layers.{}.self_attn.v_proj",
    .attention_output = "model.layers.{}.self_attn.o_proj.weight",
    .query_norm = "model.layers.{}.self_attn.q_norm.weight",
    .key_norm = "model.layers.{}.self_attn.k_norm.weight",
    .mlp_norm = "model.layers.{}.post_attention_layernorm.weight",
    .gate = "model.layers.{}.mlp.gate_proj.weight",
    .up = "model.layers.{}.mlp.up_proj.weight",
    .down = "model.layers.{}.mlp.down_proj.weight",
};

}  // namespace

const std::vector<Family>& families() {
  static const std::vector<Family> list = {
      {.name = "llama",
       .lm_class = "LlamaForCausalLM",
       .classifier = "LlamaForSequenceClassification",
       .qkv_bias = false,
       .qk_norm = false,
       .window_by_default = false,
       .default_kv_heads = 0,
       .default_head_dim = 0,
       .default_norm_eps = 1e-6,
       .names = kLlamaNames},
      {.name = "mistral",
       .lm_class = "MistralForCausalLM",
       .classifier = "MistralForSequenceClassification",
       .qkv_bias = false,
       .qk_norm = false,
       .window_by_default = true,
       .default_kv_heads = 8,
       .default_head_dim = 0,
       .default_norm_eps = 1e-6,
       .names = kLlamaNames},
      {.name = "qwen2",
       .lm_class = "Qwen2ForCausalLM",
       .classifier = "Qwen2ForSequenceClassification",
       .qkv_bias = true,
       .qk_norm = false,
       .window_by_default = false,
       .default_kv_heads = 32,
       .default_head_dim = 0,
       .default_norm_eps = 1e-6,
       .names = kLlamaNames},
      {.name = "qwen3",
       .lm_class = "Qwen3ForCausalLM",
       .classifier = "Qwen3ForSequenceClassification",
       .qkv_bias = false,
       .qk_norm = true,
       .window_by_default = false,
       .default_kv_heads = 32,
       .default_head_dim = 128,
       .default_norm_eps = 1e-6,
       .names = kLlamaNames},
  };
  return list;
}

const Family& find_family(std::string_view name, const std::string& where) {
  std::string known;
  for (const Family& family : families()) {
    if (family.name == name) return family;
    known += (known.empty() ? "" : ", ") + std::string(family.name);
  }
  throw data::InputError(where, "model_type", "one of " + known, "'" + std::string(name) + "'");
}

std::string layer_name(const char* pattern, int64_t layer) {
  std::string name = pattern;
  const size_t place = name.find("{}");
  if (place != std::string::npos) name.replace(place, 2, std::to_string(layer));
  return name;
}

}  // namespace hone::engine
