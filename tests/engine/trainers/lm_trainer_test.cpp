#include "engine/trainers/lm_trainer.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cmath>

#include "data/error.h"
#include "tests/engine/trainers/tiny_model.h"
#include "tests/support/expect_close.h"

namespace hone::engine {
namespace {

std::vector<TrainingText> texts(int64_t count) {
  std::vector<TrainingText> result;
  for (int64_t i = 0; i < count; ++i) {
    TrainingText text;
    text.prompt_tokens = i % 4;  // 0 and 1 predict everything after the first token
    const int64_t length = 4 + (i * 7) % 9;
    for (int64_t t = 0; t < length; ++t) {
      text.tokens.push_back(static_cast<int32_t>((3 * i + t * t + 1) % 16));
    }
    result.push_back(text);
  }
  return result;
}

TEST(LmTrainer, GradientsDoNotDependOnMicroBatches) {
  const auto model = test::tiny_model(HeadKind::kLanguageModel, at::kDouble, 3);
  model->parameters().enable_grad();
  const auto corpus = texts(9);
  std::vector<const TrainingText*> all;
  for (const auto& text : corpus) all.push_back(&text);
  const double loss = accumulate_lm_gradients(*model, all, 0);
  const auto want = model->parameters().grad().clone();
  EXPECT_GT(want.abs().max().item<double>(), 1e-3);
  for (const int64_t micro : {1, 12, 30}) {
    model->parameters().zero_grad();
    EXPECT_NEAR(accumulate_lm_gradients(*model, all, micro), loss, 1e-12) << micro;
    test::expect_close(model->parameters().grad(), want, 1e-12, 0, std::to_string(micro));
  }
  std::reverse(all.begin(), all.end());
  model->parameters().zero_grad();
  EXPECT_NEAR(accumulate_lm_gradients(*model, all, 17), loss, 1e-12);
  test::expect_close(model->parameters().grad(), want, 1e-12, 0, "reversed");
}

TEST(LmTrainer, LossIsTheMeanOverPredictedTokens) {
  const auto model = test::tiny_model(HeadKind::kLanguageModel, at::kDouble, 3);
  const auto corpus = texts(5);
  double nats = 0;
  int64_t tokens = 0;
  for (const auto& text : corpus) {  // one text at a time, full log-softmax
    const at::NoGradGuard no_grad;
    const auto batch = next_token_batch({&text});
    const auto logits =
        model->hidden(batch.input.tokens, batch.input.cu_seqlens).mm(model->lm_head().t());
    const auto logp = at::log_softmax(logits, 1);
    for (size_t t = size_t(std::max<int64_t>(1, text.prompt_tokens)); t < text.tokens.size(); ++t) {
      nats -= logp[int64_t(t) - 1][text.tokens[t]].item<double>();
      ++tokens;
    }
  }
  const auto evaluation = evaluate_lm(*model, corpus);
  EXPECT_EQ(evaluation.tokens, tokens);
  EXPECT_NEAR(evaluation.total_nats, nats, 1e-9);
  EXPECT_NEAR(evaluation.perplexity, std::exp(nats / double(tokens)), 1e-9);
  model->parameters().enable_grad();
  std::vector<const TrainingText*> all;
  for (const auto& text : corpus) all.push_back(&text);
  EXPECT_NEAR(accumulate_lm_gradients(*model, all, 0), nats / double(tokens), 1e-10);
}

TEST(LmTrainer, OverfitsATinyCorpusTheSameWayTwice) {
  // Texts that begin with different tokens, so that nothing is ambiguous.
  std::vector<TrainingText> corpus;
  for (int32_t i = 0; i < 6; ++i) corpus.push_back({{i, 10, int32_t(6 + i), 11, i, 15}, 1});
  LmTrainingOptions options;
  options.steps = 150;
  options.batch_tokens = 20;
  options.optimizer.lr = 1e-2;
  options.optimizer.weight_decay = 0.0;
  options.optimizer.warmup_steps = 5;
  for (const std::string kind : {"adamw", "muon"}) {
    options.optimizer.kind = kind;
    options.optimizer.muon_lr_scale = 2.0;
    at::Tensor first;
    for (int run = 0; run < 2; ++run) {
      const auto model = test::tiny_model(HeadKind::kLanguageModel, at::kFloat, 1);
      Metrics quiet({}, true);
      const auto result = train_lm(*model, corpus, options, 7, "sft", quiet);
      EXPECT_EQ(result.steps, 150);
      EXPECT_LT(result.final_loss, 0.1) << kind;
      EXPECT_LT(evaluate_lm(*model, corpus).nats_per_token, 0.1) << kind;
      if (run == 0) first = model->parameters().data().clone();
      EXPECT_TRUE(at::equal(first, model->parameters().data())) << kind;
    }
  }
}

TEST(LmTrainer, LearnsInBfloat16AsInFloat32) {
  const auto corpus = texts(40);
  double losses[2];
  for (const bool bf16 : {false, true}) {
    // Its sizes are ones that the matrix unit takes.
    const auto model = test::tiny_model(HeadKind::kLanguageModel, at::kFloat, 3);
    LmTrainingOptions options;
    options.steps = 60;
    options.batch_tokens = 100;
    options.optimizer.lr = 3e-3;
    if (bf16) options.precision = "bf16";
    Metrics quiet({}, true);
    losses[bf16] = train_lm(*model, corpus, options, 7, "pretrain", quiet).final_loss;
    EXPECT_LT(losses[bf16], 1.5);  // log 16 = 2.8 knows nothing
  }
  EXPECT_NE(losses[1], losses[0]);
  EXPECT_NEAR(losses[1], losses[0], 0.02);
}

TEST(LmTrainer, PrecisionIsNamedAndNeedsNoDropout) {
  const auto model = test::tiny_model(HeadKind::kLanguageModel, at::kFloat, 1);
  Metrics quiet({}, true);
  LmTrainingOptions options;
  options.precision = "fp16";
  EXPECT_THROW(train_lm(*model, texts(3), options, 0, "sft", quiet), data::InputError);
  options.precision = "bf16";
  options.dropout = 0.1;
  EXPECT_THROW(train_lm(*model, texts(3), options, 0, "sft", quiet), data::InputError);
}

TEST(LmTrainer, RefusesNothingToLearnAndTooLongTexts) {
  const auto model = test::tiny_model(HeadKind::kLanguageModel, at::kFloat, 1);
  Metrics quiet({}, true);
  EXPECT_THROW(train_lm(*model, {}, {}, 0, "sft", quiet), data::InputError);
  EXPECT_THROW(train_lm(*model, {{{1, 2, 3}, 3}}, {}, 0, "sft", quiet), data::InputError);
  EXPECT_THROW(train_lm(*model, {{TokenIds(100, 1), 0}}, {}, 0, "sft", quiet), data::InputError);
}

}  // namespace
}  // namespace hone::engine
