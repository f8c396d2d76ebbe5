#include "engine/generation/generator.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <set>

#include "data/error.h"
#include "kernels/ops.h"
#include "tests/engine/models/tiny_config.h"
#include "tests/support/expect_close.h"

namespace hone::engine {
namespace {

using Prompts = std::vector<std::vector<int32_t>>;

Prompts ragged_prompts() {
  Prompts prompts;
  for (int32_t i = 0; i < 13; ++i) {
    prompts.emplace_back();
    // Lengths around the cache's block of 16, and the shortest.
    for (int32_t k = 0; k < 1 + i * i % 35; ++k) prompts.back().push_back((i * 5 + k * 3) % 23);
  }
  return prompts;
}

std::unique_ptr<CausalLM> tiny_model(at::ScalarType dtype = at::kFloat) {
  auto model = std::make_unique<CausalLM>(test::tiny_config(), HeadKind::kLanguageModel, dtype);
  model->initialize(5);
  const at::NoGradGuard no_grad;
  model->parameters().data().mul_(1.2);  // sharper distributions
  return model;
}

GenerationOptions options_of(int64_t tokens) {
  GenerationOptions options;
  options.max_new_tokens = tokens;
  options.seed = 17;
  options.stop_ids = {2};
  return options;
}

TEST(Generator, WhatAPromptYieldsDoesNotDependOnItsCompany) {
  const auto model = tiny_model();
  const Prompts prompts = ragged_prompts();
  auto options = options_of(24);
  options.top_p = 0.9;
  const auto together = generate(*model, prompts, 3, options);
  ASSERT_EQ(together.size(), prompts.size() * 3);
  std::set<std::vector<int32_t>> different;
  for (const int64_t rows : {1, 2, 7, 64}) {
    options.max_rows = rows;
    const auto others = generate(*model, prompts, 3, options);
    for (size_t i = 0; i < together.size(); ++i) {
      EXPECT_EQ(others[i].tokens, together[i].tokens) << "rows " << rows << ", sample " << i;
      EXPECT_EQ(others[i].prompt, static_cast<int64_t>(i) / 3);
      ASSERT_EQ(others[i].logprobs.size(), together[i].logprobs.size());
      for (size_t t = 0; t < together[i].logprobs.size(); ++t) {
        EXPECT_NEAR(others[i].logprobs[t], together[i].logprobs[t], 1e-5);
      }
    }
  }
  for (const auto& sample : together) different.insert(sample.tokens);
  EXPECT_GT(different.size(), together.size() * 3 / 4) << "samples of a prompt should differ";
  // Alone, in reverse order, keyed by id.
  options.max_rows = 4;
  const auto alone = generate(*model, {prompts[11], prompts[3]}, 2, options, {11, 3});
  for (size_t sample : {0, 1}) {
    EXPECT_EQ(alone[sample].tokens, together[11 * 3 + sample].tokens);
    EXPECT_EQ(alone[2 + sample].tokens, together[3 * 3 + sample].tokens);
  }
}

TEST(Generator, LogprobsEqualThePackedForward) {
  const auto model = tiny_model(at::kDouble);
  const Prompts prompts = ragged_prompts();
  auto options = options_of(20);
  options.temperature = 0.7;
  for (const auto& sample : generate(*model, prompts, 2, options)) {
    std::vector<int64_t> all(prompts[static_cast<size_t>(sample.prompt)].begin(),
                             prompts[static_cast<size_t>(sample.prompt)].end());
    const auto start = static_cast<int64_t>(all.size()) - 1;
    all.insert(all.end(), sample.tokens.begin(), sample.tokens.end());
    const auto input = test::pack({{all.begin(), all.end() - 1}});
    const auto size = static_cast<int64_t>(sample.tokens.size());
    const auto hidden = model->hidden(input.tokens, input.cu_seqlens).narrow(0, start, size);
    const auto targets = at::tensor(all, at::kLong).narrow(0, start + 1, size);
    for (const bool raw : {false, true}) {
      const auto want =
          kernels::token_logprobs(hidden, model->lm_head(), targets, raw ? 1.0 : 0.7).logprobs;
      test::expect_close(at::tensor(raw ? sample.raw_logprobs : sample.logprobs), want, 1e-5);
    }
  }
}

TEST(Generator, GreedyTakesTheLikeliestToken) {
  const auto model = tiny_model(at::kDouble);
  auto options = options_of(12);
  options.temperature = 0.0;
  options.stop_ids = {};
  const Prompts prompts = ragged_prompts();
  for (const auto& sample : generate(*model, prompts, 1, options)) {
    std::vector<int64_t> all(prompts[static_cast<size_t>(sample.prompt)].begin(),
                             prompts[static_cast<size_t>(sample.prompt)].end());
    ASSERT_EQ(sample.tokens.size(), 12U);
    for (const int32_t token : sample.tokens) {
      const auto input = test::pack({all});
      const auto hidden = model->hidden(input.tokens, input.cu_seqlens);
      const auto logits = model->lm_head().mv(hidden[hidden.size(0) - 1]);
      EXPECT_EQ(token, logits.argmax().item<int64_t>());
      all.push_back(token);
    }
  }
}

TEST(Generator, AContinuedTextDrawsAsInOneCall) {
  const auto model = tiny_model();
  auto options = options_of(20);
  options.stop_ids = {};
  const std::vector<int32_t> prompt = {1, 4, 9};
  const auto whole = generate(*model, {prompt}, 1, options)[0].tokens;
  std::vector<int32_t> longer = prompt;
  longer.insert(longer.end(), whole.begin(), whole.begin() + 8);
  options.max_new_tokens = 12;
  const auto rest = generate(*model, {longer}, 1, options)[0].tokens;
  EXPECT_EQ(rest, std::vector<int32_t>(whole.begin() + 8, whole.end()));
}

TEST(Generator, StopsAtStopTokensAfterTheLeastLength) {
  const auto model = tiny_model();
  auto options = options_of(30);
  options.stop_ids = {2, 3, 4, 5, 6, 7};
  const auto is_stop = [&](int32_t token) { return token >= 2 && token <= 7; };
  int64_t early = 0;
  for (const auto& sample : generate(*model, ragged_prompts(), 4, options)) {
    const auto stop = std::find_if(sample.tokens.begin(), sample.tokens.end(), is_stop);
    EXPECT_EQ(sample.stopped, stop != sample.tokens.end());
    const bool last = stop == sample.tokens.end() - 1;
    EXPECT_EQ(sample.stopped, last) << "a stop token is kept as the last one";
    early += sample.stopped && sample.tokens.size() <= 5 ? 1 : 0;
    EXPECT_TRUE(sample.finished);
  }
  EXPECT_GT(early, 10) << "otherwise the next check shows nothing";
  options.min_new_tokens = 5;
  for (const auto& sample : generate(*model, ragged_prompts(), 4, options)) {
    for (size_t t = 0; t < 5; ++t) EXPECT_FALSE(is_stop(sample.tokens[t]));
    EXPECT_LE(sample.raw_logprobs[0], sample.logprobs[0]) << "raw: the stop tokens' mass counts";
  }
}

TEST(Generator, EndsAtTheContext) {
  const auto model = tiny_model();
  auto options = options_of(1000);
  options.stop_ids = {};
  const Prompts prompts = {std::vector<int32_t>(60, 4), std::vector<int32_t>(63, 5), {1}};
  const auto samples = generate(*model, prompts, 1, options);
  EXPECT_EQ(samples[0].tokens.size(), 4U);
  EXPECT_EQ(samples[1].tokens.size(), 1U);
  EXPECT_EQ(samples[2].tokens.size(), 63U);
  EXPECT_FALSE(samples[0].stopped);
}

TEST(Generator, ReportsSamplesInOrderAndStopsWhenAsked) {
  const auto model = tiny_model();
  auto options = options_of(15);
  options.max_rows = 3;
  std::vector<int64_t> order;
  int64_t tokens = 0;
  options.on_sample = [&](const Sample& sample) {
    order.push_back(sample.prompt * 2 + sample.sample);
  };
  options.on_token = [&](const Sample&, int32_t) { ++tokens; };
  const auto samples = generate(*model, ragged_prompts(), 2, options);
  std::vector<int64_t> want(samples.size());
  std::iota(want.begin(), want.end(), 0);
  EXPECT_EQ(order, want);
  int64_t held = 0;
  for (const auto& sample : samples) held += static_cast<int64_t>(sample.tokens.size());
  EXPECT_EQ(tokens, held);
  options.progress = [](int64_t generated) { return generated < 60; };
  order.clear();
  const auto part = generate(*model, ragged_prompts(), 2, options);
  EXPECT_LT(order.size(), samples.size());
  for (size_t i = 0; i < order.size(); ++i) {
    EXPECT_TRUE(part[i].finished);
    EXPECT_EQ(part[i].tokens, samples[i].tokens);
  }
}

TEST(Generator, RefusesWhatCannotBe) {
  const auto model = tiny_model();
  const auto complaint = [&](const Prompts& prompts,
                             const std::function<void(GenerationOptions&)>& change, int64_t n = 1) {
    auto options = options_of(4);
    change(options);
    try {
      generate(*model, prompts, n, options);
    } catch (const data::InputError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  const auto nothing = [](GenerationOptions&) {};
  EXPECT_NE(complaint({{1}, {}}, nothing).find("prompt 1"), std::string::npos);
  EXPECT_NE(complaint({{23}}, nothing).find("23"), std::string::npos);
  EXPECT_NE(complaint({{-1}}, nothing), "");
  EXPECT_NE(complaint({std::vector<int32_t>(64, 1)}, nothing).find("64"), std::string::npos);
  EXPECT_NE(complaint({{1}}, nothing, 0), "");
  const std::vector<std::pair<const char*, std::function<void(GenerationOptions&)>>> bad = {
      {"max_new_tokens", [](auto& o) { o.max_new_tokens = 0; }},
      {"min_new_tokens", [](auto& o) { o.min_new_tokens = 5; }},
      {"temperature", [](auto& o) { o.temperature = -1; }},
      {"temperature", [](auto& o) { o.temperature = std::nan(""); }},
      {"top_k", [](auto& o) { o.top_k = -1; }},
      {"top_p", [](auto& o) { o.top_p = 0; }},
      {"min_p", [](auto& o) { o.min_p = 1.5; }},
      {"max_rows", [](auto& o) { o.max_rows = 0; }},
      {"stop_ids", [](auto& o) { o.stop_ids = {23}; }},
  };
  for (const auto& [name, change] : bad) {
    EXPECT_NE(complaint({{1}}, change).find(name), std::string::npos) << name;
  }
  EXPECT_TRUE(generate(*model, {}, 1, options_of(4)).empty());
}

TEST(Generator, Stories260kGreedyTokensAreStable) {
  const auto directory = test::shared_data("stories260k/hf");
  if (directory.empty()) GTEST_SKIP() << "../shared/data/stories260k is not there";
  const auto model = load_model(directory, HeadKind::kLanguageModel);
  auto options = options_of(200);
  options.temperature = 0.0;
  options.stop_ids = model->config().eos_ids;
  const auto sample = generate(*model, {{1}}, 1, options)[0];
  EXPECT_EQ(sample.tokens.size(), 200U);
  // Once upon a time, there was a little girl named L ...
  EXPECT_EQ(std::vector<int32_t>(sample.tokens.begin(), sample.tokens.begin() + 2),
            (std::vector<int32_t>{403, 407}));
}

}  // namespace
}  // namespace hone::engine
