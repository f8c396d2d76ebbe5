// config.json as transformers 4 and 5 write it, in and out.

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "data/error.h"
#include "engine/models/families.h"
#include "engine/models/model_config.h"

namespace hone::engine {
namespace {

using nlohmann::json;

/// Typed access to one object of the file; every complaint names file and field.
class Fields {
 public:
  Fields(const json& object, const std::string& where, std::string prefix = "")
      : object_(object), where_(where), prefix_(std::move(prefix)) {}

  bool has(const char* name) const { return object_.contains(name) && !object_[name].is_null(); }
  const json& raw(const char* name) const { return object_[name]; }

  [[noreturn]] void fail(const char* name, const std::string& expected) const {
    const std::string got = object_.contains(name) ? object_[name].dump() : "nothing";
    throw data::InputError(where_, prefix_ + name, expected, got.substr(0, 100));
  }

  int64_t integer(const char* name) const {
    if (!has(name) || !object_[name].is_number_integer()) fail(name, "an integer");
    const json& value = object_[name];
    if (value.is_number_unsigned() && value.get<uint64_t>() > INT64_MAX) fail(name, "an integer");
    return value.get<int64_t>();
  }
  int64_t integer(const char* name, int64_t fallback) const {
    return has(name) ? integer(name) : fallback;
  }
  double number(const char* name, double fallback) const {
    if (!has(name)) return fallback;
    if (!object_[name].is_number()) fail(name, "a number");
    const auto value = object_[name].get<double>();
    if (!std::isfinite(value)) fail(name, "a finite number");
    return value;
  }
  bool boolean(const char* name, bool fallback) const {
    if (!has(name)) return fallback;
    if (!object_[name].is_boolean()) fail(name, "true or false");
    return object_[name].get<bool>();
  }
  std::string text(const char* name, const std::string& fallback) const {
    if (!has(name)) return fallback;
    if (!object_[name].is_string()) fail(name, "a string");
    return object_[name].get<std::string>();
  }

 private:
  const json& object_;
  const std::string& where_;
  std::string prefix_;
};

/// Fields that other models of the same family name use and that would change the numbers.
void refuse_unsupported(const Fields& fields) {
  for (const char* name : {"attention_bias", "mlp_bias", "use_sliding_window"}) {
    if (fields.boolean(name, false)) fields.fail(name, "false (true is not supported)");
  }
  if (fields.text("hidden_act", "silu") != "silu") fields.fail("hidden_act", "\"silu\"");
  if (fields.integer("pretraining_tp", 1) > 1) fields.fail("pretraining_tp", "1");
  if (fields.number("partial_rotary_factor", 1.0) != 1.0) {
    fields.fail("partial_rotary_factor", "1");
  }
  for (const char* name :
       {"quantization_config", "attn_logit_softcapping", "final_logit_softcapping", "logit_scale",
        "embedding_multiplier", "residual_multiplier", "attention_multiplier", "logits_scaling",
        "no_rope_layers", "clip_qkv", "num_experts", "num_local_experts"}) {
    if (fields.has(name)) fields.fail(name, "no such field (not supported)");
  }
  if (fields.has("layer_types")) {
    const json& types = fields.raw("layer_types");
    for (const json& type : types) {
      if (type != "full_attention") fields.fail("layer_types", "\"full_attention\" everywhere");
    }
  }
}

void read_rope(const Fields& fields, const json& root, const std::string& where,
               ModelConfig& config) {
  config.rope_theta = fields.number("rope_theta", 10000.0);
  const char* name = fields.has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  if (!fields.has(name)) return;
  if (!root[name].is_object()) fields.fail(name, "an object");
  const Fields rope(root[name], where, std::string(name) + ".");
  config.rope_theta = rope.number("rope_theta", config.rope_theta);
  if (rope.number("partial_rotary_factor", 1.0) != 1.0) rope.fail("partial_rotary_factor", "1");
  const char* type_field = rope.has("rope_type") ? "rope_type" : "type";
  const std::string type = rope.text(type_field, "default");
  if (type == "default") return;
  if (type != "linear" && type != "llama3") rope.fail(type_field, "default, linear or llama3");
  config.rope_scaling = type;
  if (!rope.has("factor")) rope.fail("factor", "a number");
  config.rope_factor = rope.number("factor", 1.0);
  if (type == "linear") return;
  for (const char* factor : {"low_freq_factor", "high_freq_factor"}) {
    if (!rope.has(factor)) rope.fail(factor, "a number");
  }
  config.rope_low_freq_factor = rope.number("low_freq_factor", 1.0);
  config.rope_high_freq_factor = rope.number("high_freq_factor", 4.0);
  config.rope_original_positions =
      rope.integer("original_max_position_embeddings",
                   fields.integer("original_max_position_embeddings", config.max_positions));
}

void read_tokens(const Fields& fields, ModelConfig& config) {
  config.bos_id = fields.integer("bos_token_id", -1);
  config.pad_id = fields.integer("pad_token_id", -1);
  if (!fields.has("eos_token_id")) return;
  const json& eos = fields.raw("eos_token_id");
  for (const json& id : eos.is_array() ? eos : json::array({eos})) {
    if (!id.is_number_integer()) fields.fail("eos_token_id", "an integer or a list of integers");
    config.eos_ids.push_back(id.get<int64_t>());
  }
  if (!config.eos_ids.empty()) config.eos_id = config.eos_ids.front();
}

}  // namespace

ModelConfig ModelConfig::from_json(const std::string& text, const std::string& where) {
  const json root = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!root.is_object()) {
    throw data::InputError(where, "content", "a JSON object",
                           root.is_discarded() ? "invalid JSON" : root.type_name());
  }
  const Fields fields(root, where);
  ModelConfig config;
  config.family = fields.text("model_type", "");
  const Family& family = find_family(config.family, where);
  refuse_unsupported(fields);
  config.vocab_size = fields.integer("vocab_size");
  config.hidden_size = fields.integer("hidden_size");
  config.intermediate_size = fields.integer("intermediate_size");
  config.layers = fields.integer("num_hidden_layers");
  config.heads = fields.integer("num_attention_heads");
  const bool absent = !root.contains("num_key_value_heads");
  config.kv_heads = absent && family.default_kv_heads > 0
                        ? family.default_kv_heads
                        : fields.integer("num_key_value_heads", config.heads);
  config.max_positions = fields.integer("max_position_embeddings");
  if (fields.has("head_dim")) {
    config.head_dim = fields.integer("head_dim");
  } else if (family.default_head_dim > 0) {
    config.head_dim = family.default_head_dim;
  } else if (config.heads < 1 || config.hidden_size % config.heads != 0) {
    fields.fail("num_attention_heads",
                "a divisor of hidden_size = " + std::to_string(config.hidden_size));
  } else {
    config.head_dim = config.hidden_size / config.heads;
  }
  config.norm_eps = fields.number("rms_norm_eps", family.default_norm_eps);
  config.tie_embeddings = fields.boolean("tie_word_embeddings", false);
  config.initializer_range = fields.number("initializer_range", 0.02);
  if (family.window_by_default) {
    // transformers: 4096 when the field is absent, none when it is null.
    config.sliding_window =
        root.contains("sliding_window") ? fields.integer("sliding_window", 0) : int64_t{4096};
  }
  read_rope(fields, root, where, config);
  read_tokens(fields, config);
  config.validate(where);
  return config;
}

std::string ModelConfig::to_json(bool classifier) const {
  const Family& row = find_family(family, "model");
  const auto token = [](int64_t id) { return id < 0 ? json(nullptr) : json(id); };
  json root = {{"architectures", {classifier ? row.classifier : row.lm_class}},
               {"model_type", family},
               {"vocab_size", vocab_size},
               {"hidden_size", hidden_size},
               {"intermediate_size", intermediate_size},
               {"num_hidden_layers", layers},
               {"num_attention_heads", heads},
               {"num_key_value_heads", kv_heads},
               {"head_dim", head_dim},
               {"max_position_embeddings", max_positions},
               {"rms_norm_eps", norm_eps},
               {"rope_theta", rope_theta},
               {"rope_scaling", nullptr},
               {"hidden_act", "silu"},
               {"attention_dropout", 0.0},
               {"initializer_range", initializer_range},
               {"tie_word_embeddings", tie_embeddings},
               {"bos_token_id", token(bos_id)},
               {"eos_token_id", eos_ids.size() > 1 ? json(eos_ids) : token(eos_id)},
               {"pad_token_id", token(pad_id)},
               {"use_cache", true},
               {"torch_dtype", "float32"}};
  if (rope_scaling != "none") {
    root["rope_scaling"] = {{"rope_type", rope_scaling}, {"factor", rope_factor}};
  }
  if (rope_scaling == "llama3") {
    root["rope_scaling"]["low_freq_factor"] = rope_low_freq_factor;
    root["rope_scaling"]["high_freq_factor"] = rope_high_freq_factor;
    root["rope_scaling"]["original_max_position_embeddings"] = rope_original_positions;
  }
  if (row.window_by_default)
    root["sliding_window"] = token(sliding_window > 0 ? sliding_window : -1);
  if (classifier) {
    root["id2label"] = {{"0", "LABEL_0"}};
    root["label2id"] = {{"LABEL_0", 0}};
    // transformers scores the last token that is not padding, and refuses batches without a
    // padding id; an end token must not be taken for padding, so an unused id stands in.
    const auto ends = [this](int64_t id) {
      return std::find(eos_ids.begin(), eos_ids.end(), id) != eos_ids.end();
    };
    for (int64_t id = 0; (pad_id < 0 || ends(pad_id)) && id < vocab_size; ++id) {
      if (id == bos_id || ends(id)) continue;
      root["pad_token_id"] = id;
      break;
    }
  }
  return root.dump(2) + "\n";
}

}  // namespace hone::engine
