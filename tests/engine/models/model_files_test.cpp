#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>

#include "data/atomic_file.h"
#include "data/error.h"
#include "engine/io/safetensors.h"
#include "engine/models/causal_lm.h"
#include "kernels/ops.h"
#include "tests/engine/models/tiny_config.h"
#include "tests/support/expect_close.h"

namespace hone::engine {
namespace {

namespace fs = std::filesystem;

class ModelFiles : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = fs::temp_directory_path() / ("hone_model_files_" + std::to_string(getpid()));
    fs::remove_all(directory_);
    model_ = std::make_unique<CausalLM>(test::tiny_config(), HeadKind::kLanguageModel);
    model_->initialize(1);
    save_model(*model_, directory_);
  }
  void TearDown() override { fs::remove_all(directory_); }

  /// Writes the saved tensors again after `change` has had its way with them.
  void rewrite(const std::function<void(std::vector<TensorToStore>&)>& change) {
    std::vector<at::Tensor> kept;
    std::vector<TensorToStore> tensors;
    for (const auto& slice : model_->parameters().slices()) {
      kept.push_back(model_->parameters().slice(slice.name).contiguous());
      tensors.push_back({slice.name, "F32", slice.shape, kept.back().data_ptr(),
                         static_cast<size_t>(slice.numel) * 4});
    }
    change(tensors);
    write_safetensors(directory_ / "model.safetensors", tensors, {});
  }

  std::string complaint(HeadKind head = HeadKind::kLanguageModel) {
    try {
      load_model(directory_, head);
    } catch (const data::InputError& error) {
      return error.what();
    }
    return "";
  }

  fs::path directory_;
  std::unique_ptr<CausalLM> model_;
};

at::Tensor stored(const Safetensors& file, const std::string& name) {
  const StoredTensor& tensor = file.at(name);
  const auto type = tensor.dtype == "F32" ? at::kFloat : at::kLong;
  return at::from_blob(const_cast<std::byte*>(tensor.bytes), tensor.shape, type).clone();
}

TEST_F(ModelFiles, EveryTensorSurvives) {
  const auto read = load_model(directory_, HeadKind::kLanguageModel);
  EXPECT_TRUE(at::equal(read->parameters().data(), model_->parameters().data()));
  EXPECT_EQ(read->config().to_json(false), model_->config().to_json(false));
  const auto exact = load_model(directory_, HeadKind::kLanguageModel, at::kDouble);
  EXPECT_TRUE(at::equal(exact->parameters().data().to(at::kFloat), model_->parameters().data()));
}

TEST_F(ModelFiles, ScalarModelsKeepTheirHeadAndLanguageModelsGetAFreshOne) {
  const auto fresh = load_model(directory_, HeadKind::kScalar);
  EXPECT_GT(fresh->scalar_head().abs().min().item<float>(), 0.0F);
  save_model(*fresh, directory_);
  const auto read = load_model(directory_, HeadKind::kScalar);
  EXPECT_TRUE(at::equal(read->parameters().data(), fresh->parameters().data()));
  EXPECT_NE(complaint().find("lm_head.weight"), std::string::npos);
}

TEST_F(ModelFiles, ReadsHalfPrecision) {
  for (const auto type : {at::kHalf, at::kBFloat16}) {
    std::vector<at::Tensor> kept;
    rewrite([&](std::vector<TensorToStore>& tensors) {
      for (auto& tensor : tensors) {
        kept.push_back(model_->parameters().slice(tensor.name).to(type).contiguous());
        tensor.dtype = type == at::kHalf ? "F16" : "BF16";
        tensor.bytes = kept.back().data_ptr();
        tensor.size /= 2;
      }
    });
    const auto read = load_model(directory_, HeadKind::kLanguageModel);
    EXPECT_TRUE(
        at::equal(read->parameters().data(), model_->parameters().data().to(type).to(at::kFloat)));
  }
}

TEST_F(ModelFiles, WritesTheTypeOfItsArena) {
  const auto half = load_model(directory_, HeadKind::kLanguageModel, at::kBFloat16);
  EXPECT_TRUE(at::equal(half->parameters().data(), model_->parameters().data().to(at::kBFloat16)));
  save_model(*half, directory_);
  const Safetensors file = Safetensors::open(directory_);
  EXPECT_EQ(file.at("model.norm.weight").dtype, "BF16");
  const auto config = nlohmann::json::parse(data::read_file(directory_ / "config.json"));
  EXPECT_EQ(config["torch_dtype"], "bfloat16");
  const auto read = load_model(directory_, HeadKind::kLanguageModel, at::kBFloat16);
  EXPECT_TRUE(at::equal(read->parameters().data(), half->parameters().data()));
}

TEST_F(ModelFiles, BareNamesAndTransposedMatricesSurvive) {
  model_ = std::make_unique<CausalLM>(test::tiny_config("gpt2"), HeadKind::kLanguageModel);
  model_->initialize(3);
  save_model(*model_, directory_);
  const std::string name = "h.1.attn.c_attn.weight";
  {
    const Safetensors file = Safetensors::open(directory_);
    EXPECT_EQ(file.at("transformer." + name).shape, (std::vector<int64_t>{12, 36}));
    EXPECT_TRUE(at::equal(stored(file, "transformer." + name),
                          model_->parameters().slice("transformer." + name).t()));
  }
  // As the family's first checkpoints are: no prefix, and the causal mask among the tensors.
  const auto mask = at::ones({1, 1, 64, 64});
  std::vector<at::Tensor> kept;
  std::vector<TensorToStore> tensors;
  for (const auto& slice : model_->parameters().slices()) {
    at::Tensor values = model_->parameters().slice(slice);
    if (slice.transposed) values = values.t();
    kept.push_back(values.contiguous());
    tensors.push_back({slice.name.substr(12), "F32", kept.back().sizes().vec(),
                       kept.back().data_ptr(), kept.back().nbytes()});
  }
  tensors.push_back({"h.0.attn.bias", "F32", {1, 1, 64, 64}, mask.data_ptr(), mask.nbytes()});
  write_safetensors(directory_ / "model.safetensors", tensors, {});
  const auto bare = load_model(directory_, HeadKind::kLanguageModel);
  EXPECT_TRUE(at::equal(bare->parameters().data(), model_->parameters().data()));
  save_model(*bare, directory_);
  EXPECT_EQ(Safetensors::open(directory_).tensors().count(name), 1U);
  EXPECT_EQ(Safetensors::open(directory_).tensors().count("transformer." + name), 0U);
  EXPECT_TRUE(at::equal(load_model(directory_, HeadKind::kLanguageModel)->parameters().data(),
                        model_->parameters().data()));
  const auto scorer = load_model(directory_, HeadKind::kScalar);
  save_model(*scorer, directory_);
  EXPECT_EQ(Safetensors::open(directory_).tensors().count("transformer." + name), 1U);
  EXPECT_TRUE(at::equal(load_model(directory_, HeadKind::kScalar)->parameters().data(),
                        scorer->parameters().data()));
}

TEST_F(ModelFiles, MissingExtraAndMisshapenTensorsAreNamed) {
  const std::string name = "model.layers.1.self_attn.v_proj.weight";
  const auto find = [&](std::vector<TensorToStore>& tensors) {
    return std::find_if(tensors.begin(), tensors.end(),
                        [&](const TensorToStore& tensor) { return tensor.name == name; });
  };
  rewrite([&](auto& tensors) { tensors.erase(find(tensors)); });
  EXPECT_NE(complaint().find(name), std::string::npos);
  rewrite([&](auto& tensors) { find(tensors)->name = "model.layers.1.self_attn.v_proj.bias"; });
  EXPECT_NE(complaint().find(name), std::string::npos);
  rewrite([&](auto& tensors) {
    tensors.push_back(*find(tensors));
    tensors.back().name = "model.layers.7.odd.weight";
  });
  EXPECT_NE(complaint().find("model.layers.7.odd.weight"), std::string::npos);
  rewrite([&](auto& tensors) { find(tensors)->shape = {24, 6}; });
  EXPECT_NE(complaint().find("[12, 12], got [24, 6]"), std::string::npos) << complaint();
  rewrite([&](auto& tensors) { find(tensors)->dtype = "I32"; });
  EXPECT_NE(complaint().find("I32"), std::string::npos);
}

TEST_F(ModelFiles, WeightsThatAreNoNumbersAreNamed) {
  const at::NoGradGuard no_grad;
  auto weights = model_->parameters().slice("model.layers.0.mlp.up_proj.weight");
  for (const double value : {std::nan(""), HUGE_VAL}) {
    weights.view({-1})[5].fill_(value);
    save_model(*model_, directory_);
    EXPECT_NE(complaint().find("model.layers.0.mlp.up_proj.weight"), std::string::npos);
  }
}

TEST_F(ModelFiles, ConfigAndTensorsMustAgreeBeforeAnythingIsAllocated) {
  auto config = nlohmann::json::parse(data::read_file(directory_ / "config.json"));
  config["vocab_size"] = 16000000;
  config["hidden_size"] = 1000000;
  data::write_file_atomically(directory_ / "config.json", config.dump());
  EXPECT_NE(complaint().find("model.embed_tokens.weight"), std::string::npos) << complaint();
  fs::remove(directory_ / "config.json");
  EXPECT_NE(complaint().find("config.json"), std::string::npos);
  fs::remove_all(directory_);
  EXPECT_NE(complaint().find(directory_.string()), std::string::npos);
}

TEST_F(ModelFiles, TiedCheckpointsMayCarryTheHeadOnceMore) {
  ModelConfig config = test::tiny_config();
  config.tie_embeddings = true;
  model_ = std::make_unique<CausalLM>(config, HeadKind::kLanguageModel);
  model_->initialize(2);
  save_model(*model_, directory_);
  const auto add_head = [&](size_t source) {
    rewrite([&](auto& tensors) {
      tensors.push_back(tensors[source]);
      tensors.back().name = "lm_head.weight";
      tensors.back().shape = tensors[0].shape;
    });
  };
  add_head(0);
  EXPECT_EQ(complaint(), "");
  auto other = model_->parameters().slice("model.embed_tokens.weight").clone().add_(1.0);
  rewrite([&](auto& tensors) {
    tensors.push_back(tensors[0]);
    tensors.back().name = "lm_head.weight";
    tensors.back().bytes = other.data_ptr();
  });
  EXPECT_NE(complaint().find("lm_head.weight"), std::string::npos);
}

TEST_F(ModelFiles, GenerationConfigNamesMoreEndTokens) {
  data::write_file_atomically(directory_ / "generation_config.json", R"({"eos_token_id": [2, 9]})");
  EXPECT_EQ(load_model(directory_, HeadKind::kLanguageModel)->config().eos_ids,
            (std::vector<int64_t>{2, 9}));
  data::write_file_atomically(directory_ / "generation_config.json", R"({"eos_token_id": [99]})");
  EXPECT_NE(complaint().find("generation_config.json"), std::string::npos);
}

/// Models for tests/python/model_test.py, which names the directory; read back here in any case.
TEST(SavedForOthers, ModelsAndScores) {
  const char* given = std::getenv("HONE_SAVE_MODELS_TO");
  const fs::path root =
      given != nullptr ? fs::path(given)
                       : fs::temp_directory_path() / ("hone_saved_" + std::to_string(getpid()));
  for (const std::string name :
       {"plain", "tied", "llama3", "scalar", "gpt2", "mistral", "qwen2", "qwen3"}) {
    const bool family = name == "gpt2" || name == "mistral" || name.starts_with("qwen");
    ModelConfig config = test::tiny_config(family ? name : std::string("llama"));
    config.max_positions = 128;
    config.tie_embeddings = name == "tied" || name == "scalar" || name == "gpt2";
    if (name == "plain") config.attention_bias = config.mlp_bias = true;
    if (name == "mistral" || name == "qwen2") config.sliding_window = 6;
    if (name == "qwen2") config.windowed_layers = {false, true};
    if (name == "llama3") {
      config.rope_scaling = "llama3";
      config.rope_factor = 8.0;
      config.rope_original_positions = 32;
    }
    const auto head = name == "scalar" ? HeadKind::kScalar : HeadKind::kLanguageModel;
    CausalLM model(config, head);
    model.initialize(31);
    save_model(model, root / name);
    EXPECT_TRUE(
        at::equal(load_model(root / name, head)->parameters().data(), model.parameters().data()));
    if (head != HeadKind::kScalar) continue;
    const std::vector<std::vector<int64_t>> texts = {
        {1, 5, 9, 2}, {1, 7}, {4}, {1, 22, 4, 5, 6, 7, 8, 9, 10, 11}, {1, 20, 2}};
    const auto batch = test::pack(texts);
    const auto scores = reward::sequence_scores(model, batch.tokens, batch.cu_seqlens);
    nlohmann::json lines;
    for (size_t i = 0; i < texts.size(); ++i) {
      lines.push_back(
          {{"tokens", texts[i]}, {"score", scores[static_cast<int64_t>(i)].item<float>()}});
    }
    data::write_file_atomically(root / "scores.json", lines.dump());
  }
  if (given == nullptr) fs::remove_all(root);
}

/// Reads every directory of HONE_READ_MODELS_FROM and writes it to HONE_SAVE_MODELS_TO.
TEST(SavedForOthers, WhatWasRead) {
  const char* from = std::getenv("HONE_READ_MODELS_FROM");
  const char* to = std::getenv("HONE_SAVE_MODELS_TO");
  if (from == nullptr || to == nullptr) GTEST_SKIP() << "tests/python/model_families_test.py asks";
  for (const auto& entry : fs::directory_iterator(from)) {
    const std::string name = entry.path().filename().string();
    const auto type = name.ends_with("bf16")  ? at::kBFloat16
                      : name.ends_with("f16") ? at::kHalf
                                              : at::kFloat;
    save_model(*load_model(entry.path(), HeadKind::kLanguageModel, type), fs::path(to) / name);
  }
}

/// Checkpoints whose numbers transformers computed.
class SharedModels : public testing::TestWithParam<const char*> {};

TEST_P(SharedModels, EqualTransformers) {
  const auto directory = test::shared_data(std::string("tiny_models/") + GetParam());
  if (directory.empty()) GTEST_SKIP() << "../shared/data/tiny_models is not there";
  const Safetensors expected = Safetensors::open(directory / "expected.safetensors");
  const auto ids = stored(expected, "input_ids"), mask = stored(expected, "attention_mask");
  const auto lengths = mask.sum(1);
  const auto real = mask.view({-1}).nonzero().view({-1});
  const auto cu = at::cat({at::zeros({1}, at::kLong), lengths.cumsum(0)});
  const auto flat = [&](const char* name) {
    const auto tensor = stored(expected, name);
    return tensor.view({-1, tensor.size(2)}).index_select(0, real);
  };
  const auto want = stored(expected, "next_token_logprobs");
  {
    const auto model = load_model(directory, HeadKind::kLanguageModel);
    const auto hidden = model->hidden(ids.view({-1}).index_select(0, real), cu);
    test::expect_close(hidden, flat("last_hidden_state"), 1e-4, 0.0, "last_hidden_state");
    test::expect_close(hidden.mm(model->lm_head().t()), flat("logits"), 1e-4, 0.0, "logits");
    for (int64_t row = 0; row < ids.size(0); ++row) {
      const int64_t length = lengths[row].item<int64_t>(), start = cu[row].item<int64_t>();
      const auto got =
          kernels::token_logprobs(hidden.narrow(0, start, length - 1), model->lm_head(),
                                  ids[row].narrow(0, 1, length - 1), 1.0);
      test::expect_close(got.logprobs, want[row].narrow(0, 0, length - 1), 1e-4, 0.0, "logprobs");
    }
  }
  // Rounding these weights to bfloat16 moves single logits by up to 0.26 before any arithmetic, so
  // the bound is on the whole (root mean square error over root mean square) and the arithmetic is
  // held against exact arithmetic on the rounded weights.
  const auto model = load_model(directory, HeadKind::kLanguageModel, at::kBFloat16);
  CausalLM rounded(model->config(), HeadKind::kLanguageModel);
  const at::NoGradGuard no_grad;
  rounded.parameters().data().copy_(model->parameters().data());
  const auto run = [&](CausalLM& any) {
    return any.hidden(ids.view({-1}).index_select(0, real), cu);
  };
  const auto hidden = run(*model), exact = run(rounded);
  EXPECT_EQ(hidden.scalar_type(), at::kBFloat16);
  const auto error = [](const at::Tensor& got, const at::Tensor& right) {
    return ((got.to(at::kFloat) - right).norm() / right.norm()).item<double>();
  };
  const auto logits = hidden.mm(model->lm_head().t());
  EXPECT_LT(error(hidden, exact), 2e-2);
  EXPECT_LT(error(logits, exact.mm(rounded.lm_head().t())), 2e-2);
  EXPECT_LT(error(hidden, flat("last_hidden_state")), 2.5e-2);
  EXPECT_LT(error(logits, flat("logits")), 2.5e-2);
}

INSTANTIATE_TEST_SUITE_P(Families, SharedModels,
                         testing::Values("gpt2", "llama", "llama-tied", "mistral", "qwen2",
                                         "qwen3"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace hone::engine
