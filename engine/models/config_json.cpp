// config.json as transformers 4 and 5 write it: reading.

#include <limits>
#include <nlohmann/json.hpp>

#include "data/error.h"
#include "engine/io/json.h"
#include "engine/models/families.h"
#include "engine/models/model_config.h"

namespace hone::engine {
namespace {

using nlohmann::json;

constexpr int64_t kAny = std::numeric_limits<int64_t>::max();

int64_t integer(const JsonField& fields, const std::string& name) {
  return fields.at(name).integer(-kAny, kAny);
}

int64_t integer_or(const JsonField& fields, const std::string& name, int64_t fallback) {
  return fields.has(name) ? integer(fields, name) : fallback;
}

/// A field whose value would change the numbers.
[[noreturn]] void unsupported(const JsonField& field, const std::string& expected) {
  field.fail(expected + " (of the families known: " + family_names() + ")");
}

/// Fields that other models use under the same names and that would change the numbers.
void refuse_unsupported(const JsonField& fields, const Family& family) {
  const auto refuse_true = [&](const char* name) {
    if (fields.boolean_or(name, false)) unsupported(fields.at(name), "false");
  };
  for (const char* name : {"add_cross_attention", "is_encoder_decoder", "use_mrope"}) {
    refuse_true(name);
  }
  if (family.qkv_bias != Bias::kByConfig) refuse_true("attention_bias");
  if (family.mlp_bias != Bias::kByConfig) refuse_true("mlp_bias");
  if (family.window != Window::kByLayer) refuse_true("use_sliding_window");
  if (!fields.boolean_or("is_causal", true)) unsupported(fields.at("is_causal"), "true");
  if (integer_or(fields, "pretraining_tp", 1) > 1) unsupported(fields.at("pretraining_tp"), "1");
  if (fields.number_or("partial_rotary_factor", 1.0) != 1.0) {
    unsupported(fields.at("partial_rotary_factor"), "1");
  }
  for (const char* name :
       {"quantization_config", "attn_logit_softcapping", "final_logit_softcapping", "logit_scale",
        "logits_scaling", "embedding_multiplier", "residual_multiplier", "attention_multiplier",
        "query_pre_attn_scalar", "no_rope_layers", "clip_qkv", "num_experts", "num_local_experts",
        "rotary_pct", "alibi", "num_loops"}) {
    if (fields.has(name) && fields.at(name).value() != json(false)) {
      unsupported(fields.at(name), "no such field");
    }
  }
  if (family.window == Window::kByLayer || !fields.has("layer_types")) return;
  const JsonField types = fields.at("layer_types");
  const bool windowed = family.window == Window::kEveryLayer && fields.has("sliding_window");
  const std::string kind = windowed ? "sliding_attention" : "full_attention";
  for (size_t i = 0; i < types.list_size(); ++i) {
    if (types.at(i).text() != kind) unsupported(types.at(i), '"' + kind + "\" everywhere");
  }
}

/// sliding_window and which layers it is for, as transformers derives it.
void read_window(const JsonField& fields, const Family& family, ModelConfig& config) {
  if (family.window == Window::kNever) return;
  const int64_t size = fields.value().contains("sliding_window")
                           ? integer_or(fields, "sliding_window", 0)
                           : int64_t{4096};
  if (fields.has("sliding_window") && size < 1) {
    fields.at("sliding_window").fail("an integer above 0, or null");
  }
  if (family.window == Window::kEveryLayer) {
    config.sliding_window = size;
    return;
  }
  const bool used = fields.boolean_or("use_sliding_window", false) && size > 0;
  std::vector<bool> windowed;
  if (fields.has("layer_types")) {
    const JsonField types = fields.at("layer_types");
    for (size_t i = 0; i < types.list_size(); ++i) {
      const std::string& type = types.at(i).text();
      if (type != "full_attention" && !(used && type == "sliding_attention")) {
        unsupported(types.at(i), used ? "full_attention or sliding_attention"
                                      : "full_attention (there is no window)");
      }
      windowed.push_back(type == "sliding_attention");
    }
    if (static_cast<int64_t>(windowed.size()) != config.layers) {
      types.fail(std::to_string(config.layers) + " layers", std::to_string(windowed.size()));
    }
  } else if (used) {
    const int64_t first = integer_or(fields, "max_window_layers", 28);
    for (int64_t i = 0; i < config.layers; ++i) windowed.push_back(i >= first);
  }
  if (!used) return;
  config.sliding_window = size;
  config.windowed_layers = std::move(windowed);
}

/// transformers 5 writes rope_parameters with theta inside, 4 wrote rope_theta and rope_scaling.
void read_rope(const JsonField& fields, ModelConfig& config) {
  config.rope_theta = fields.number_or("rope_theta", 10000.0);
  const char* name = fields.has("rope_scaling") && !fields.at("rope_scaling").value().empty()
                         ? "rope_scaling"
                         : "rope_parameters";
  if (!fields.has(name)) return;
  const JsonField rope = fields.at(name);
  rope.require_object();
  config.rope_theta = rope.number_or("rope_theta", config.rope_theta);
  if (rope.number_or("partial_rotary_factor", 1.0) != 1.0) {
    unsupported(rope.at("partial_rotary_factor"), "1");
  }
  for (const char* kind : {"full_attention", "sliding_attention"}) {
    if (rope.has(kind)) unsupported(rope.at(kind), "one set of parameters for all layers");
  }
  const char* type_field = rope.has("rope_type") ? "rope_type" : "type";
  const std::string type = rope.text_or(type_field, "default");
  if (type == "default") return;
  if (type != "linear" && type != "llama3") {
    unsupported(rope.at(type_field), "default, linear or llama3");
  }
  config.rope_scaling = type;
  config.rope_factor = rope.at("factor").number();
  if (type == "linear") return;
  config.rope_low_freq_factor = rope.at("low_freq_factor").number();
  config.rope_high_freq_factor = rope.at("high_freq_factor").number();
  // A field of the file's own goes before the one inside, as in transformers.
  const char* original = "original_max_position_embeddings";
  config.rope_original_positions =
      integer_or(fields, original, integer_or(rope, original, config.max_positions));
}

void read_tokens(const JsonField& fields, ModelConfig& config) {
  config.bos_id = integer_or(fields, "bos_token_id", -1);
  config.pad_id = integer_or(fields, "pad_token_id", -1);
  if (!fields.has("eos_token_id")) return;
  const JsonField eos = fields.at("eos_token_id");
  if (!eos.value().is_array()) {
    config.eos_ids.push_back(eos.integer(-kAny, kAny));
  } else {
    for (size_t i = 0; i < eos.list_size(); ++i) {
      config.eos_ids.push_back(eos.at(i).integer(-kAny, kAny));
    }
  }
  if (!config.eos_ids.empty()) config.eos_id = config.eos_ids.front();
}

void read_heads(const JsonField& fields, const Family& family, ModelConfig& config) {
  const ConfigNames& names = family.fields;
  config.heads = integer(fields, names.heads);
  config.kv_heads = config.heads;
  if (names.kv_heads != nullptr) {
    const bool absent = !fields.value().contains(names.kv_heads);
    config.kv_heads = absent && family.default_kv_heads > 0
                          ? family.default_kv_heads
                          : integer_or(fields, names.kv_heads, config.heads);
  }
  if (names.head_dim != nullptr && fields.has(names.head_dim)) {
    config.head_dim = integer(fields, names.head_dim);
  } else if (family.default_head_dim > 0) {
    config.head_dim = family.default_head_dim;
  } else if (config.heads < 1 || config.hidden_size % config.heads != 0) {
    fields.at(names.heads)
        .fail("a divisor of " + std::string(names.hidden_size) + " = " +
              std::to_string(config.hidden_size));
  } else {
    config.head_dim = config.hidden_size / config.heads;
  }
}

}  // namespace

ModelConfig ModelConfig::from_json(const std::string& text, const std::string& where) {
  const json root = parse_json(text, where);
  const JsonField fields(root, where);
  fields.require_object();
  ModelConfig config;
  config.family = fields.text_or("model_type", "");
  const Family& family = find_family(config.family, where);
  const ConfigNames& names = family.fields;
  refuse_unsupported(fields, family);
  config.vocab_size = integer(fields, "vocab_size");
  config.hidden_size = integer(fields, names.hidden_size);
  config.layers = fields.at(names.layers).integer(1, kMostLayers);
  config.max_positions = integer(fields, names.max_positions);
  config.intermediate_size = family.gated || fields.has(names.intermediate_size)
                                 ? integer(fields, names.intermediate_size)
                                 : 4 * fields.at(names.hidden_size).integer(0, int64_t{1} << 40);
  read_heads(fields, family, config);
  config.activation = fields.text_or(names.activation, family.activations.front().name);
  config.norm_eps = fields.number_or(names.norm_eps, family.default_norm_eps);
  config.tie_embeddings = fields.boolean_or("tie_word_embeddings", family.default_tied);
  config.initializer_range = fields.number_or("initializer_range", 0.02);
  if (family.qkv_bias == Bias::kByConfig) {
    config.attention_bias = fields.boolean_or("attention_bias", false);
  }
  if (family.mlp_bias == Bias::kByConfig) config.mlp_bias = fields.boolean_or("mlp_bias", false);
  if (family.learned_positions) {
    config.scale_attention = fields.boolean_or("scale_attn_weights", true);
    config.scale_by_inverse_layer = fields.boolean_or("scale_attn_by_inverse_layer_idx", false);
  } else {
    read_rope(fields, config);
  }
  read_window(fields, family, config);
  read_tokens(fields, config);
  config.validate(where);
  return config;
}

}  // namespace hone::engine
