#include "engine/models/model_config.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "data/error.h"
#include "engine/models/rope.h"
#include "tests/engine/models/tiny_config.h"

namespace hone::engine {
namespace {

using nlohmann::json;

json base() { return json::parse(test::tiny_config().to_json(false)); }

/// The message of the InputError that reading `config` gives; empty when there is none.
std::string complaint(const json& config) {
  try {
    ModelConfig::from_json(config.dump(), "dir/config.json");
  } catch (const data::InputError& error) {
    return error.what();
  }
  return "";
}

TEST(ModelConfig, SurvivesWritingAndReading) {
  ModelConfig config = test::tiny_config();
  config.rope_scaling = "llama3";
  config.rope_factor = 8.0;
  config.rope_low_freq_factor = 1.5;
  config.rope_high_freq_factor = 3.5;
  config.rope_original_positions = 32;
  config.rope_theta = 50000.0;
  config.eos_ids = {2, 5};
  const ModelConfig read = ModelConfig::from_json(config.to_json(false), "config.json");
  EXPECT_EQ(read.to_json(false), config.to_json(false));
  EXPECT_EQ(read.eos_ids, config.eos_ids);
  EXPECT_EQ(read.rope_original_positions, 32);
  EXPECT_EQ(read.head_dim, 6);
}

TEST(ModelConfig, ClassifierNamesAPaddingTokenThatEndsNothing) {
  ModelConfig config = test::tiny_config();
  for (const int64_t pad : {-1, 2}) {
    config.pad_id = pad;
    const json written = json::parse(config.to_json(true));
    EXPECT_EQ(written["architectures"][0], "LlamaForSequenceClassification");
    EXPECT_EQ(written["id2label"].size(), 1U);
    EXPECT_EQ(written["pad_token_id"], 0);
  }
}

TEST(ModelConfig, ReadsRotaryParametersOfBothStyles) {
  json five = base();
  five.erase("rope_theta");
  five.erase("rope_scaling");
  five["rope_parameters"] = {{"rope_theta", 500000.0}, {"rope_type", "linear"}, {"factor", 4.0}};
  json four = base();
  four["rope_theta"] = 500000.0;
  four["rope_scaling"] = {{"type", "linear"}, {"factor", 4.0}};
  for (const json& style : {five, four}) {
    const ModelConfig config = ModelConfig::from_json(style.dump(), "config.json");
    EXPECT_EQ(config.rope_theta, 500000.0);
    EXPECT_EQ(config.rope_scaling, "linear");
    EXPECT_EQ(config.rope_factor, 4.0);
  }
}

TEST(ModelConfig, RefusesWhatWouldChangeTheNumbersAndNamesIt) {
  const std::vector<std::pair<std::string, json>> fields = {
      {"hidden_act", "gelu"},
      {"is_causal", false},
      {"num_experts", 4},
      {"attention_bias", 1},
      {"pretraining_tp", 2},
      {"partial_rotary_factor", 0.5},
      {"quantization_config", {{"bits", 4}}},
      {"use_sliding_window", true},
      {"final_logit_softcapping", 30.0},
      {"hidden_size", 13.5},
      {"hidden_size", "12"},
      {"vocab_size", nullptr},
      {"num_attention_heads", 3},
      {"num_key_value_heads", 0},
      {"num_hidden_layers", -1},
      {"num_hidden_layers", 1000000000000},
      {"head_dim", 5},
      {"max_position_embeddings", 0},
      {"rms_norm_eps", 0.0},
      {"eos_token_id", 23},
      {"bos_token_id", -2},
      {"rope_theta", -1.0},
      {"layer_types", {"full_attention", "sliding_attention"}},
  };
  for (const auto& [name, value] : fields) {
    json config = base();
    config[name] = value;
    const std::string message = complaint(config);
    EXPECT_NE(message.find(name), std::string::npos) << name << ": " << message;
    EXPECT_EQ(message.find("dir/config.json"), 0U) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  }
}

json of_family(const std::string& family) {
  return json::parse(test::tiny_config(family).to_json(false));
}

TEST(ModelConfig, EveryFamilySurvivesWritingAndReading) {
  for (const char* family : {"gpt2", "llama", "mistral", "qwen2", "qwen3"}) {
    ModelConfig config = test::tiny_config(std::string(family));
    const std::string plain = config.to_json(false);
    EXPECT_EQ(ModelConfig::from_json(plain, "config.json").to_json(false), plain);
    config.norm_eps = 1e-4;
    if (config.family == "gpt2") {
      config.activation = "relu";
      config.scale_attention = false;
      config.scale_by_inverse_layer = true;
    }
    if (config.family == "llama") config.attention_bias = config.mlp_bias = true;
    if (config.family == "mistral" || config.family == "qwen2") config.sliding_window = 5;
    if (config.family == "qwen2") config.windowed_layers = {true, false};
    const std::string changed = config.to_json(false, "bfloat16");
    const ModelConfig read = ModelConfig::from_json(changed, "config.json");
    EXPECT_EQ(read.to_json(false, "bfloat16"), changed);
    EXPECT_NE(changed, plain);
    EXPECT_EQ(read.window(0), config.window(0));
    EXPECT_EQ(read.window(1), config.window(1));
    EXPECT_EQ(read.attention_scale(1), config.attention_scale(1));
    EXPECT_EQ(read.activation, config.activation.empty() ? "silu" : "relu");
  }
}

TEST(ModelConfig, Gpt2HasItsOwnFieldsAndDefaults) {
  json config = of_family("gpt2");
  for (const char* name : {"activation_function", "layer_norm_epsilon", "tie_word_embeddings",
                           "scale_attn_weights", "n_inner"}) {
    config.erase(name);
  }
  const ModelConfig read = ModelConfig::from_json(config.dump(), "config.json");
  EXPECT_EQ(read.intermediate_size, 48);
  EXPECT_EQ(read.head_dim, 3);
  EXPECT_EQ(read.kv_heads, 4);
  EXPECT_EQ(read.norm_eps, 1e-5);
  EXPECT_TRUE(read.tie_embeddings);
  EXPECT_DOUBLE_EQ(read.attention_scale(1), 1.0 / std::sqrt(3.0));
  config["n_inner"] = nullptr;
  EXPECT_EQ(ModelConfig::from_json(config.dump(), "config.json").intermediate_size, 48);
  const std::vector<std::pair<std::string, json>> wrong = {{"n_head", 5},
                                                           {"n_head", 0},
                                                           {"n_inner", 0},
                                                           {"n_layer", "2"},
                                                           {"n_positions", 0},
                                                           {"activation_function", "silu"},
                                                           {"n_embd", 1LL << 40},
                                                           {"n_embd", -12},
                                                           {"layer_norm_epsilon", 2},
                                                           {"n_positions", 1LL << 40},
                                                           {"add_cross_attention", true},
                                                           {"scale_attn_weights", "yes"}};
  for (const auto& [name, value] : wrong) {
    json bad = of_family("gpt2");
    bad.erase("n_inner");
    bad[name] = value;
    EXPECT_NE(complaint(bad).find(name), std::string::npos) << name << ": " << complaint(bad);
  }
}

TEST(ModelConfig, WindowsFollowTheFamily) {
  const auto windows = [](const json& config) {
    const ModelConfig read = ModelConfig::from_json(config.dump(), "config.json");
    return std::vector<int64_t>{read.window(0), read.window(1)};
  };
  json mistral = of_family("mistral");
  EXPECT_EQ(windows(mistral), (std::vector<int64_t>{0, 0}));  // null
  mistral.erase("sliding_window");
  EXPECT_EQ(windows(mistral), (std::vector<int64_t>{4096, 4096}));
  mistral["sliding_window"] = 0;
  EXPECT_NE(complaint(mistral).find("sliding_window"), std::string::npos);
  json qwen = of_family("qwen2");
  qwen["sliding_window"] = 7;
  EXPECT_EQ(windows(qwen), (std::vector<int64_t>{0, 0}));
  qwen["use_sliding_window"] = true;
  qwen["max_window_layers"] = 1;
  EXPECT_EQ(windows(qwen), (std::vector<int64_t>{0, 7}));
  qwen["layer_types"] = {"sliding_attention", "full_attention"};
  EXPECT_EQ(windows(qwen), (std::vector<int64_t>{7, 0}));
  qwen["layer_types"] = {"sliding_attention"};
  EXPECT_NE(complaint(qwen).find("layer_types"), std::string::npos);
  qwen["layer_types"] = {"sliding_attention", "linear_attention"};
  EXPECT_NE(complaint(qwen).find("layer_types[1]"), std::string::npos);
  qwen["layer_types"] = {"sliding_attention", "full_attention"};
  qwen["use_sliding_window"] = false;
  EXPECT_NE(complaint(qwen).find("layer_types[0]"), std::string::npos);
}

TEST(ModelConfig, RefusesUnknownFamiliesAndScalingsNamingTheKnown) {
  json config = base();
  config["model_type"] = "mamba";
  EXPECT_NE(complaint(config).find("llama"), std::string::npos);
  EXPECT_NE(complaint(config).find("mamba"), std::string::npos);
  config = base();
  config["rope_scaling"] = {{"rope_type", "yarn"}, {"factor", 4.0}};
  EXPECT_NE(complaint(config).find("default, linear or llama3"), std::string::npos);
  EXPECT_NE(complaint(config).find("gpt2, llama, mistral, qwen2, qwen3"), std::string::npos);
  config["rope_scaling"] = {{"rope_type", "llama3"}};
  EXPECT_NE(complaint(config).find("rope_scaling"), std::string::npos);
  EXPECT_NE(complaint(config).find("factor"), std::string::npos);
}

TEST(ModelConfig, RefusesWhatIsNoObject) {
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("[]"), std::string("3"),
        std::string("{\"model_type\": 3}"), std::string("{}"), std::string("\xff\xfe"),
        std::string(100000, '[')}) {
    EXPECT_THROW(ModelConfig::from_json(text, "config.json"), data::InputError) << text;
  }
}

TEST(Rope, TablesFollowTheFormulas) {
  ModelConfig config = test::tiny_config();
  const auto [cos, sin] = rope_tables(config, 9, at::kDouble, at::kCPU);
  ASSERT_EQ(cos.sizes(), at::IntArrayRef({9, 3}));
  EXPECT_NEAR(cos[8][1].item<double>(), std::cos(8 * std::pow(10000.0, -2.0 / 6)), 1e-14);
  EXPECT_NEAR(sin[5][2].item<double>(), std::sin(5 * std::pow(10000.0, -4.0 / 6)), 1e-14);
}

TEST(Rope, Llama3KeepsShortWavesAndStretchesLongOnes) {
  ModelConfig config = test::tiny_config();
  config.head_dim = 16;
  const auto plain = rope_frequencies(config);
  config.rope_scaling = "llama3";
  config.rope_factor = 8.0;
  config.rope_low_freq_factor = 1.0;
  config.rope_high_freq_factor = 4.0;
  config.rope_original_positions = 64;
  const auto scaled = rope_frequencies(config);
  EXPECT_EQ(scaled[0], plain[0]);              // 10 turns in 64 positions
  EXPECT_EQ(scaled.back(), plain.back() / 8);  // a small part of a turn
  EXPECT_LT(scaled[1], plain[1]);              // 3.2 turns: between
  EXPECT_GT(scaled[1], plain[1] / 8);
  config.rope_scaling = "linear";
  EXPECT_EQ(rope_frequencies(config)[3], plain[3] / 8);
}

}  // namespace
}  // namespace hone::engine
