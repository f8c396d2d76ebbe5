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
      {"attention_bias", true},
      {"mlp_bias", true},
      {"hidden_act", "gelu"},
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

TEST(ModelConfig, RefusesUnknownFamiliesAndScalingsNamingTheKnown) {
  json config = base();
  config["model_type"] = "mamba";
  EXPECT_NE(complaint(config).find("llama"), std::string::npos);
  EXPECT_NE(complaint(config).find("mamba"), std::string::npos);
  config = base();
  config["rope_scaling"] = {{"rope_type", "yarn"}, {"factor", 4.0}};
  EXPECT_NE(complaint(config).find("default, linear or llama3"), std::string::npos);
  config["rope_scaling"] = {{"rope_type", "llama3"}};
  EXPECT_NE(complaint(config).find("rope_scaling.factor"), std::string::npos);
}

TEST(ModelConfig, RefusesWhatIsNoObject) {
  for (const char* text : {"", "{", "[]", "3", "{\"model_type\": 3}", "{}", "\xff\xfe"}) {
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
