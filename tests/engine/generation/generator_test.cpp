#include "engine/generation/generator.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <numeric>
#include <set>
#include <string>

#include "data/error.h"
#include "engine/tokenizer/tokenizer.h"
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

class Path : public testing::TestWithParam<bool> {};  // use_stack

INSTANTIATE_TEST_SUITE_P(Generator, Path, testing::Bool(),
                         [](const auto& i) { return i.param ? "stack" : "tensors"; });

TEST_P(Path, WhatAPromptYieldsDoesNotDependOnItsCompany) {
  const auto model = tiny_model();
  const Prompts prompts = ragged_prompts();
  auto options = options_of(24);
  options.use_stack = GetParam();
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
        if (options.use_stack) {
          EXPECT_EQ(others[i].logprobs[t], together[i].logprobs[t]);
        }
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

/// Tokens equal, log-probabilities within 1e-5.
void expect_same(const std::vector<Sample>& got, const std::vector<Sample>& want,
                 const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(got[i].tokens, want[i].tokens) << what << ", sample " << i;
    for (size_t t = 0; t < got[i].tokens.size(); ++t) {
      ASSERT_NEAR(got[i].logprobs[t], want[i].logprobs[t], 1e-5) << what << ", sample " << i;
      ASSERT_NEAR(got[i].raw_logprobs[t], want[i].raw_logprobs[t], 1e-5) << what << ", " << i;
    }
  }
}

std::vector<ModelConfig> family_configs() {
  std::vector<ModelConfig> configs(5, test::tiny_config());
  configs[1].family = "mistral";
  configs[1].sliding_window = 7;
  configs[2].family = "qwen2";
  configs[2].tie_embeddings = true;
  configs[3].family = "qwen3";
  configs[4].family = "gpt2";
  configs[4].kv_heads = 4;
  configs[4].head_dim = 3;
  configs[4].tie_embeddings = true;
  return configs;
}

TEST(Generator, WholeRowsAndTensorsAgreeInEveryFamily) {
  for (const ModelConfig& config : family_configs()) {
    CausalLM model(config, HeadKind::kLanguageModel);
    model.initialize(9);
    const at::NoGradGuard no_grad;
    at::manual_seed(4);
    model.parameters().data().add_(at::randn_like(model.parameters().data()) * 0.05);
    auto options = options_of(20);
    options.min_new_tokens = 3;
    options.repetition_penalty = 1.2;
    ASSERT_TRUE(options.use_stack);
    const auto stack = generate(model, ragged_prompts(), 2, options);
    options.use_stack = false;
    expect_same(stack, generate(model, ragged_prompts(), 2, options), config.family);
  }
}

TEST_P(Path, PiecesOfAPromptGiveWhatTheWholeGives) {
  for (const ModelConfig& config : family_configs()) {
    CausalLM model(config, HeadKind::kLanguageModel);
    model.initialize(9);
    auto options = options_of(4);
    options.use_stack = GetParam();
    options.max_rows = 1;
    const auto one_by_one = generate(model, ragged_prompts(), 1, options);
    for (const int64_t piece : {1, 3, 16, 33}) {
      options.prefill_tokens = piece;
      options.max_rows = 1 + piece % 5;
      expect_same(generate(model, ragged_prompts(), 1, options), one_by_one,
                  config.family + ", pieces of " + std::to_string(piece));
    }
  }
}

/// What transformers' processors make of logits, in double and in their order: repetition penalty,
/// least length, temperature, top-k, top-p, min-p. Log-probabilities; -inf where removed.
std::vector<double> processed(std::vector<double> logits, const std::vector<int64_t>& context,
                              bool too_short, const GenerationOptions& o) {
  for (const int64_t id : std::set<int64_t>(context.begin(), context.end())) {
    double& x = logits[static_cast<size_t>(id)];
    x = x < 0 ? x * o.repetition_penalty : x / o.repetition_penalty;
  }
  const double nothing = -std::numeric_limits<double>::infinity();
  for (const int64_t id : o.stop_ids) {
    if (too_short) logits[static_cast<size_t>(id)] = nothing;
  }
  for (double& x : logits) x /= o.temperature;
  const auto probabilities = [&] {
    const double top = *std::max_element(logits.begin(), logits.end());
    std::vector<double> p;
    for (const double x : logits) p.push_back(std::exp(x - top));
    const double sum = std::accumulate(p.begin(), p.end(), 0.0);
    for (double& x : p) x /= sum;
    return p;
  };
  std::vector<size_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return logits[a] > logits[b]; });
  if (o.top_k > 0) {
    const double least = logits[order[static_cast<size_t>(o.top_k) - 1]];
    for (double& x : logits) x = x < least ? nothing : x;
  }
  const auto p = probabilities();
  double before = 0;
  for (const size_t id : order) {
    if (before >= o.top_p) logits[id] = nothing;
    before += p[id];
  }
  const auto q = probabilities();
  const double most = *std::max_element(q.begin(), q.end());
  for (size_t i = 0; i < q.size(); ++i) {
    if (q[i] < o.min_p * most) logits[i] = nothing;
  }
  auto result = probabilities();
  for (double& x : result) x = std::log(x);
  return result;
}

std::vector<GenerationOptions> sampling_options() {
  std::vector<GenerationOptions> list(7, options_of(1));
  list[1].temperature = 0.6;
  list[2].top_k = 5;
  list[3].top_p = 0.7;
  list[4].min_p = 0.2;
  list[5].repetition_penalty = 1.7;
  list[6].temperature = 1.5;
  list[6].top_k = 12;
  list[6].top_p = 0.9;
  list[6].min_p = 0.05;
  list[6].repetition_penalty = 0.8;
  list[6].min_new_tokens = 1;
  return list;
}

std::vector<double> next_logits(CausalLM& model, const std::vector<int64_t>& context) {
  const auto input = test::pack({context});
  const at::Tensor hidden = model.hidden(input.tokens, input.cu_seqlens);
  const at::Tensor logits = model.lm_head().mv(hidden[hidden.size(0) - 1]).to(at::kDouble);
  const at::Tensor flat = logits.contiguous();
  return {flat.const_data_ptr<double>(), flat.const_data_ptr<double>() + flat.numel()};
}

TEST_P(Path, DrawsFollowTheExactDistribution) {
  const auto model = tiny_model();
  const std::vector<int32_t> prompt = {1, 4, 9, 4};
  const std::vector<int64_t> context(prompt.begin(), prompt.end());
  const auto logits = next_logits(*model, context);
  constexpr int64_t kDraws = 6000;
  for (GenerationOptions options : sampling_options()) {
    options.use_stack = GetParam();
    const auto want = processed(logits, context, options.min_new_tokens > 0, options);
    const auto raw = processed(logits, {}, false, options_of(1));
    std::vector<double> counts(want.size());
    for (const Sample& sample : generate(*model, {prompt}, kDraws, options)) {
      const auto id = static_cast<size_t>(sample.tokens[0]);
      counts[id] += 1;
      ASSERT_NEAR(sample.logprobs[0], want[id], 1e-4);
      ASSERT_NEAR(sample.raw_logprobs[0], raw[id], 1e-4);
    }
    double chi = 0, freedom = -1, rare_want = 0, rare_count = 0;
    for (size_t i = 0; i < want.size(); ++i) {
      const double expected = std::exp(want[i]) * kDraws;
      if (expected < 5) {
        rare_want += expected;
        rare_count += counts[i];
        continue;
      }
      chi += (counts[i] - expected) * (counts[i] - expected) / expected;
      freedom += 1;
    }
    if (rare_want >= 5) {
      chi += (rare_count - rare_want) * (rare_count - rare_want) / rare_want;
      freedom += 1;
    }
    ASSERT_GE(freedom, 1);
    // Mean and variance of chi square are freedom and 2 * freedom; 5 standard deviations.
    EXPECT_LT(chi, freedom + 5 * std::sqrt(2 * freedom))
        << "temperature " << options.temperature << ", top_k " << options.top_k << ", top_p "
        << options.top_p << ", min_p " << options.min_p << ", repetition "
        << options.repetition_penalty;
  }
}

TEST_P(Path, RepetitionPenaltyCountsPromptAndResponse) {
  const auto model = tiny_model();
  auto options = options_of(25);
  options.use_stack = GetParam();
  options.repetition_penalty = 1.4;
  options.temperature = 0.8;
  options.min_new_tokens = 4;
  const Prompts prompts = ragged_prompts();
  for (const Sample& sample : generate(*model, prompts, 1, options)) {
    const auto& prompt = prompts[static_cast<size_t>(sample.prompt)];
    std::vector<int64_t> context(prompt.begin(), prompt.end());
    for (size_t t = 0; t < sample.tokens.size(); ++t) {
      const auto logits = next_logits(*model, context);
      const auto id = static_cast<size_t>(sample.tokens[t]);
      EXPECT_NEAR(sample.logprobs[t], processed(logits, context, t < 4, options)[id], 2e-4);
      EXPECT_NEAR(sample.raw_logprobs[t], processed(logits, {}, false, options_of(1))[id], 2e-4);
      context.push_back(sample.tokens[t]);
    }
  }
}

TEST_P(Path, GreedyTiesGoToTheLowestId) {
  const auto model = tiny_model();
  const at::NoGradGuard no_grad;
  model->lm_head().zero_();  // every logit the same
  auto options = options_of(3);
  options.use_stack = GetParam();
  options.temperature = 0.0;
  options.stop_ids = {};
  EXPECT_EQ(generate(*model, {{5}}, 1, options)[0].tokens, (std::vector<int32_t>{0, 0, 0}));
  options.min_new_tokens = 3;
  options.stop_ids = {0, 1};
  EXPECT_EQ(generate(*model, {{5}}, 1, options)[0].tokens, (std::vector<int32_t>{2, 2, 2}));
}

TEST_P(Path, StopStringsEndTheTextAndKeepTheTokens) {
  ModelConfig config = test::tiny_config();
  const Tokenizer tokenizer = Tokenizer::parse(
      train_byte_level_bpe({"abcabc"}, {.vocab_size = 259, .special_tokens = {"<pad>", "<bos>"}}),
      "test");
  config.vocab_size = tokenizer.vocab_size();
  CausalLM model(config, HeadKind::kLanguageModel);
  model.initialize(3);
  auto options = options_of(40);
  options.use_stack = GetParam();
  options.stop_ids = {};
  options.tokenizer = &tokenizer;
  const auto free = generate(model, ragged_prompts(), 2, options);
  // A stop string that takes parts of two tokens of the first sample.
  const std::string whole = tokenizer.decode(free[0].tokens, true);
  options.stop_strings = {tokenizer.decode({free[0].tokens[5], free[0].tokens[6]}, true), "zzzz"};
  std::map<std::pair<int64_t, int64_t>, std::string> streamed;
  options.on_text = [&](const Sample& s, const std::string& text) {
    streamed[{s.prompt, s.sample}] += text;
  };
  const auto cut = generate(model, ragged_prompts(), 2, options);
  EXPECT_TRUE(cut[0].stopped);
  EXPECT_EQ(cut[0].stop_string, options.stop_strings[0]);
  for (size_t i = 0; i < cut.size(); ++i) {
    const auto& tokens = cut[i].tokens;
    ASSERT_LE(tokens.size(), free[i].tokens.size());
    EXPECT_TRUE(std::equal(tokens.begin(), tokens.end(), free[i].tokens.begin()));
    EXPECT_EQ(cut[i].text.find(options.stop_strings[0]), std::string::npos);
    const std::string text = tokenizer.decode(tokens, true);
    EXPECT_EQ(cut[i].text, cut[i].stopped ? text.substr(0, text.find(cut[i].stop_string)) : text);
    EXPECT_EQ((streamed[{cut[i].prompt, cut[i].sample}]), cut[i].text);
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
  EXPECT_NE(complaint({{1}}, nothing, int64_t{1} << 40), "");
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
      {"repetition_penalty", [](auto& o) { o.repetition_penalty = 0; }},
      {"repetition_penalty", [](auto& o) { o.repetition_penalty = INFINITY; }},
      {"prefill_tokens", [](auto& o) { o.prefill_tokens = 0; }},
      {"stop_strings", [](auto& o) { o.stop_strings = {"x"}; }},
      {"stop_strings", [](auto& o) { o.stop_strings = {""}; }},
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
