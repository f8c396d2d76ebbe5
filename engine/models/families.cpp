#include "engine/models/families.h"

#include "data/error.h"

namespace hone::engine {
namespace {

constexpr CheckpointNames kGpt2Names = {
    .embedding = "transformer.wte.weight",
    .positions = "transformer.wpe.weight",
    .final_norm = "transformer.ln_f",
    .lm_head = "lm_head.weight",
    .scalar_head = "score.weight",
    .attention_norm = "transformer.h.{}.ln_1",
    .query = "transformer.h.{}.attn.c_attn",
    .key = nullptr,
    .value = nullptr,
    .attention_output = "transformer.h.{}.attn.c_proj",
    .query_norm = nullptr,
    .key_norm = nullptr,
    .mlp_norm = "transformer.h.{}.ln_2",
    .gate = nullptr,
    .up = "transformer.h.{}.mlp.c_fc",
    .down = "transformer.h.{}.mlp.c_proj",
};

constexpr ConfigNames kGpt2Fields = {
    .hidden_size = "n_embd",
    .intermediate_size = "n_inner",
    .layers = "n_layer",
    .heads = "n_head",
    .kv_heads = nullptr,
    .head_dim = nullptr,
    .max_positions = "n_positions",
    .norm_eps = "layer_norm_epsilon",
    .activation = "activation_function",
};

constexpr CheckpointNames kLlamaNames = {
    .embedding = "model.embed_tokens.weight",
    .positions = nullptr,
    .final_norm = "model.norm",
    .lm_head = "lm_head.weight",
    .scalar_head = "score.weight",
    .attention_norm = "model.layers.{}.input_layernorm",
    .query = "model.layers.{}.self_attn.q_proj",
    .key = "model.layers.{}.self_attn.k_proj",
    .value = "model.layers.{}.self_attn.v_proj",
    .attention_output = "model.layers.{}.self_attn.o_proj",
    .query_norm = "model.layers.{}.self_attn.q_norm",
    .key_norm = "model.layers.{}.self_attn.k_norm",
    .mlp_norm = "model.layers.{}.post_attention_layernorm",
    .gate = "model.layers.{}.mlp.gate_proj",
    .up = "model.layers.{}.mlp.up_proj",
    .down = "model.layers.{}.mlp.down_proj",
};

constexpr ConfigNames kLlamaFields = {
    .hidden_size = "hidden_size",
    .intermediate_size = "intermediate_size",
    .layers = "num_hidden_layers",
    .heads = "num_attention_heads",
    .kv_heads = "num_key_value_heads",
    .head_dim = "head_dim",
    .max_positions = "max_position_embeddings",
    .norm_eps = "rms_norm_eps",
    .activation = "hidden_act",
};

/// What llama and the families after its pattern share.
Family llama_like(const char* name, const char* lm_class, const char* classifier) {
  return {.name = name,
          .lm_class = lm_class,
          .classifier = classifier,
          .prefix = "model.",
          .layer_norm = false,
          .learned_positions = false,
          .gated = true,
          .transposed = false,
          .heads_divide = false,
          .qk_norm = false,
          .qkv_bias = Bias::kNever,
          .output_bias = Bias::kNever,
          .mlp_bias = Bias::kNever,
          .window = Window::kNever,
          .activations = {{"silu", Activation::kSilu}, {"swish", Activation::kSilu}},
          .default_kv_heads = 0,
          .default_head_dim = 0,
          .default_norm_eps = 1e-6,
          .default_tied = false,
          .ignored_suffixes = {".rotary_emb.inv_freq"},
          .fields = kLlamaFields,
          .names = kLlamaNames};
}

Family gpt2() {
  Family row = llama_like("gpt2", "GPT2LMHeadModel", "GPT2ForSequenceClassification");
  row.prefix = "transformer.";
  row.layer_norm = row.learned_positions = row.transposed = row.heads_divide = true;
  row.gated = false;
  row.qkv_bias = row.output_bias = row.mlp_bias = Bias::kAlways;
  row.activations = {{"gelu_new", Activation::kGeluTanh},
                     {"gelu_pytorch_tanh", Activation::kGeluTanh},
                     {"gelu", Activation::kGelu},
                     {"relu", Activation::kRelu}};
  row.default_norm_eps = 1e-5;
  row.default_tied = true;
  row.ignored_suffixes = {".attn.bias", ".attn.masked_bias"};  // the causal mask
  row.fields = kGpt2Fields;
  row.names = kGpt2Names;
  return row;
}

Family llama() {
  Family row = llama_like("llama", "LlamaForCausalLM", "LlamaForSequenceClassification");
  row.heads_divide = true;
  row.qkv_bias = row.output_bias = row.mlp_bias = Bias::kByConfig;
  return row;
}

Family mistral() {
  Family row = llama_like("mistral", "MistralForCausalLM", "MistralForSequenceClassification");
  row.window = Window::kEveryLayer;
  row.default_kv_heads = 8;
  return row;
}

Family qwen2() {
  Family row = llama_like("qwen2", "Qwen2ForCausalLM", "Qwen2ForSequenceClassification");
  row.qkv_bias = Bias::kAlways;
  row.window = Window::kByLayer;
  row.default_kv_heads = 32;
  return row;
}

Family qwen3() {
  Family row = llama_like("qwen3", "Qwen3ForCausalLM", "Qwen3ForSequenceClassification");
  row.qk_norm = true;
  row.qkv_bias = row.output_bias = Bias::kByConfig;
  row.window = Window::kByLayer;
  row.default_kv_heads = 32;
  row.default_head_dim = 128;
  return row;
}

}  // namespace

const std::vector<Family>& families() {
  static const std::vector<Family> list = {gpt2(), llama(), mistral(), qwen2(), qwen3()};
  return list;
}

std::string family_names() {
  std::string names;
  for (const Family& family : families())
    names += (names.empty() ? "" : ", ") + std::string(family.name);
  return names;
}

const Family& find_family(std::string_view name, const std::string& where) {
  for (const Family& family : families()) {
    if (family.name == name) return family;
  }
  throw data::InputError(where, "model_type", "one of " + family_names(),
                         "'" + std::string(name) + "'");
}

Activation find_activation(const Family& family, const std::string& name,
                           const std::string& where) {
  if (name.empty()) return family.activations.front().activation;
  std::string known;
  for (const ActivationName& each : family.activations) {
    if (name == each.name) return each.activation;
    known += (known.empty() ? "" : ", ") + std::string(each.name);
  }
  throw data::InputError(where, family.fields.activation,
                         "one of " + known + " in family " + family.name, "'" + name + "'");
}

std::string layer_name(const char* pattern, int64_t layer) {
  std::string name = pattern;
  const size_t place = name.find("{}");
  if (place != std::string::npos) name.replace(place, 2, std::to_string(layer));
  return name;
}

}  // namespace hone::engine
