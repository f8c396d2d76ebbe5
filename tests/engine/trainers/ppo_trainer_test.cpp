#include "engine/trainers/ppo_trainer.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "data/error.h"
#include "engine/rollout/collector.h"
#include "tests/engine/trainers/tiny_model.h"

namespace hone::engine {
namespace {

constexpr int32_t kWanted = 3;
constexpr int64_t kEos = 0;

/// A random policy that is paid for each token 3 it writes.
struct Toy {
  explicit Toy(at::ScalarType dtype = at::kFloat)
      : actor(test::tiny_model(HeadKind::kLanguageModel, dtype, 1)),
        reference(actor->copy(HeadKind::kLanguageModel)),
        critic(test::tiny_model(HeadKind::kScalar, dtype, 2)) {
    problem.actor = actor.get();
    problem.reference = reference.get();
    problem.critic = critic.get();
    problem.eos_ids = {kEos};
    problem.seed = 11;
    for (int32_t i = 1; i < 16; ++i) problem.prompts.push_back(TokenIds(size_t(1 + i % 3), i));
    problem.score = [this](const std::vector<TokenIds>& texts) {
      std::vector<float> scores;
      for (const auto& text : texts) {
        scores.push_back(float(std::count(text.begin(), text.end(), kWanted)));
      }
      double mean = 0;
      for (const float score : scores) mean += score / double(scores.size());
      history.push_back(mean);
      return scores;
    };
    options.iterations = 15;
    options.prompts_per_iteration = 32;
    options.max_new_tokens = 8;
    options.temperature = 0.8;
    options.kl_coef = 0.0;
    options.missing_eos = "keep";
    options.epochs = 2;
    options.minibatches = 2;
    options.actor.lr = 3e-3;
    options.critic.lr = 3e-3;
  }

  PpoResult train(const std::filesystem::path& run = {}) {
    Metrics metrics(run, true);
    return train_ppo(problem, options, metrics);
  }

  std::unique_ptr<CausalLM> actor, reference, critic;
  std::vector<double> history;
  PpoProblem problem;
  PpoOptions options;
};

TEST(PpoTrainer, RewardRisesAndTheFirstRatioIsExactlyOne) {
  for (const std::string placement : {"last", "after_last"}) {
    Toy toy;
    toy.options.placement = placement;
    const auto result = toy.train();
    EXPECT_EQ(result.iterations, 15);
    EXPECT_LT(toy.history.front(), 1.5);
    EXPECT_GT(toy.history.back(), 6.0) << placement;
    EXPECT_EQ(result.first_ratio_error, 0.0) << placement;
    EXPECT_EQ(result.first_approx_kl, 0.0) << placement;
  }
}

TEST(PpoTrainer, Bfloat16ProductsLearnTooWithTheFirstRatioAtOne) {
  Toy toy;
  toy.options.precision = "bf16";
  toy.options.micro_tokens = 40;
  const auto result = toy.train();
  EXPECT_GT(toy.history.back(), 6.0);
  EXPECT_EQ(result.first_ratio_error, 0.0);
  EXPECT_EQ(result.first_approx_kl, 0.0);
}

TEST(PpoTrainer, MicroBatchesKeepTheFirstRatioAtOne) {
  Toy toy;
  toy.options.iterations = 4;
  toy.options.micro_tokens = 40;
  const auto result = toy.train();
  EXPECT_EQ(result.first_ratio_error, 0.0);
  EXPECT_EQ(result.first_approx_kl, 0.0);
}

TEST(PpoTrainer, MicroBatchesChangeOnlyRounding) {
  at::Tensor want;
  for (const int64_t micro : {0, 37}) {
    Toy toy(at::kDouble);
    toy.options.iterations = 2;
    toy.options.micro_tokens = micro;
    toy.options.epochs = 1;
    toy.options.kl_coef = 0.1;
    toy.train();
    const auto& got = toy.actor->parameters().data();
    if (!want.defined()) want = got.clone();
    EXPECT_LT((got - want).abs().max().item<double>(), 1e-8);
  }
}

TEST(PpoTrainer, SameSeedSameBytes) {
  const int threads = at::get_num_threads();
  at::set_num_threads(2);  // actor and critic side by side
  at::Tensor actor, critic;
  for (int run = 0; run < 3; ++run) {
    Toy toy;
    toy.options.iterations = 3;
    toy.options.kl_coef = 0.1;
    if (run == 2) toy.problem.seed = 12;
    toy.train();
    if (run == 0) actor = toy.actor->parameters().data().clone();
    if (run == 0) critic = toy.critic->parameters().data().clone();
    EXPECT_EQ(at::equal(actor, toy.actor->parameters().data()), run < 2);
    EXPECT_EQ(at::equal(critic, toy.critic->parameters().data()), run < 2);
  }
  at::set_num_threads(threads);
}

TEST(PpoTrainer, CriticFreeAlgorithmsLearnToo) {
  for (const std::string algorithm : {"rloo", "grpo", "dr_grpo"}) {
    Toy toy;
    toy.problem.critic = nullptr;
    toy.options.algorithm = algorithm;
    toy.options.prompts_per_iteration = 8;
    toy.options.samples_per_prompt = 4;
    toy.options.kl_coef = 0.01;
    toy.options.kl_estimator = algorithm == "rloo" ? "k1" : "k3";
    toy.options.aggregation = algorithm == "grpo"      ? "seq_mean_token_mean"
                              : algorithm == "dr_grpo" ? "constant"
                                                       : "token_mean";
    const auto result = toy.train();
    EXPECT_GT(toy.history.back(), 5.0) << algorithm;
    EXPECT_EQ(result.first_ratio_error, 0.0) << algorithm;
  }
}

TEST(PpoTrainer, KlPenaltyHoldsThePolicyBack) {
  double kl[2];
  for (int strong = 0; strong < 2; ++strong) {
    Toy toy;
    toy.options.iterations = 12;
    toy.options.kl_coef = strong ? 3.0 : 0.0;
    toy.train();
    const auto rollout = sample_texts(*toy.actor, toy.problem.prompts,
                                      {.samples_per_prompt = 8,
                                       .max_new_tokens = 8,
                                       .temperature = 0.8,
                                       .eos_ids = {kEos},
                                       .seed = 3});
    std::vector<TokenIds> prompts, responses;
    for (const auto& text : rollout.texts) {
      const auto cut = text.tokens.begin() + text.prompt_tokens;
      prompts.emplace_back(text.tokens.begin(), cut);
      responses.emplace_back(cut, text.tokens.end());
    }
    responses.back().clear();  // an empty response has no KL
    const auto each = sequence_kl(*toy.actor, *toy.reference, prompts, responses, 0.8);
    EXPECT_EQ(each.back(), 0.0);
    kl[strong] = 0;
    for (const double one : each) kl[strong] += one / double(each.size());
  }
  EXPECT_GT(kl[0], 1.0);
  EXPECT_LT(kl[1], 0.3 * kl[0]);
}

TEST(PpoTrainer, RolloutLogProbabilitiesAndEveryMetric) {
  const auto directory =
      std::filesystem::temp_directory_path() / ("hone_ppo_test_" + std::to_string(::getpid()));
  for (const std::string old : {"recompute", "rollout"}) {
    std::filesystem::remove_all(directory);
    Toy toy;
    toy.options.iterations = 2;
    toy.options.old_logprobs = old;
    toy.options.whiten_rewards = true;
    toy.options.value_clip = 0.2;
    toy.train(directory);
    std::ifstream lines(directory / "metrics.jsonl");
    std::string line;
    int steps = 0;
    while (std::getline(lines, line)) {
      const auto object = nlohmann::json::parse(line);
      if (!object.contains("ppo/score")) continue;
      ++steps;
      for (const char* name : {"score",
                               "reward",
                               "kl",
                               "kl_coef",
                               "entropy",
                               "clip_fraction",
                               "approx_kl",
                               "ratio_max",
                               "value_loss",
                               "explained_variance",
                               "response_length",
                               "eos_rate",
                               "advantage_mean",
                               "advantage_std",
                               "rollout_mismatch",
                               "seconds_rollout",
                               "seconds_scoring",
                               "seconds_update",
                               "tokens_per_second",
                               "actor_grad_norm",
                               "critic_grad_norm",
                               "lr"}) {
        ASSERT_TRUE(object.contains(std::string("ppo/") + name)) << name;
        EXPECT_TRUE(object[std::string("ppo/") + name].is_number()) << name;
      }
      EXPECT_LT(object["ppo/rollout_mismatch"].get<double>(), 1e-5);
      EXPECT_GT(object["ppo/entropy"].get<double>(), 1.0);
      EXPECT_LE(object["ppo/response_length"].get<double>(), 8.0);
    }
    EXPECT_EQ(steps, 2);
  }
  std::filesystem::remove_all(directory);
}

TEST(PpoTrainer, MissingEosIsPunishedByTheNamedRule) {
  Toy toy;
  const auto rollout_with = [&](const std::string& rule, double penalty) {
    auto rollout = sample_texts(*toy.actor, toy.problem.prompts,
                                {.samples_per_prompt = 4, .max_new_tokens = 8, .eos_ids = {kEos}});
    ScoringOptions scoring;
    scoring.normalization = {.mean = 1.0, .std = 2.0};
    scoring.missing_eos = parse_missing_eos(rule, penalty);
    scoring.eos_penalty = penalty;
    score_texts(rollout, toy.problem.score, scoring);
    return rollout;
  };
  const auto keep = rollout_with("keep", 0), replace = rollout_with("replace", -1),
             subtract = rollout_with("subtract", 1), cap = rollout_with("cap", -1);
  int missing = 0;
  for (int64_t i = 0; i < keep.size(); ++i) {
    const double score = (keep.raw_scores[size_t(i)] - 1.0) / 2.0;
    const bool ended = keep.texts[size_t(i)].tokens.back() == kEos;
    EXPECT_EQ(keep.ended[size_t(i)] != 0, ended);
    missing += !ended;
    const auto value = [&](const Rollout& r) { return r.scores[i].item<double>(); };
    EXPECT_NEAR(value(keep), score, 1e-6);
    EXPECT_NEAR(value(replace), ended ? score : -1.0, 1e-6);
    EXPECT_NEAR(value(subtract), ended ? score : score - 1.0, 1e-6);
    EXPECT_NEAR(value(cap), ended ? score : std::min(score, 0.0) - 1.0, 1e-6);
  }
  EXPECT_GT(missing, 0);
  EXPECT_LT(missing, keep.size());
}

TEST(PpoTrainer, PromptsAreDrawnWithoutReplacement) {
  const auto first = draw_prompts(10, 10, 3, 0);
  auto sorted = first;
  std::sort(sorted.begin(), sorted.end());
  for (int64_t i = 0; i < 10; ++i) EXPECT_EQ(sorted[size_t(i)], i);
  EXPECT_EQ(first, draw_prompts(10, 10, 3, 0));
  EXPECT_NE(first, draw_prompts(10, 10, 3, 1));
  EXPECT_EQ(draw_prompts(4, 11, 3, 0).size(), 11u);
}

TEST(PpoTrainer, RefusesWhatCannotBe) {
  const auto refuses = [](auto change, const std::string& word) {
    Toy toy;
    change(toy);
    try {
      toy.train();
      ADD_FAILURE() << word << ": no error";
    } catch (const data::InputError& error) {
      EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << error.what();
    }
  };
  refuses([](Toy& t) { t.options.algorithm = "a2c"; }, "algorithm");
  refuses([](Toy& t) { t.options.temperature = 0; }, "temperature");
  refuses([](Toy& t) { t.options.minibatches = 0; }, "minibatches");
  refuses([](Toy& t) { t.options.kl_estimator = "k4"; }, "kl_estimator");
  refuses([](Toy& t) { t.options.missing_eos = "drop"; }, "missing_eos");
  refuses([](Toy& t) { t.options.placement = "first"; }, "placement");
  refuses([](Toy& t) { t.options.kl_controller = "pid"; }, "kl_controller");
  refuses([](Toy& t) { t.problem.critic = nullptr; }, "critic");
  refuses([](Toy& t) { t.problem.prompts.clear(); }, "prompts");
  refuses(
      [](Toy& t) {
        t.options.algorithm = "grpo";
        t.options.samples_per_prompt = 4;
        t.options.kl_coef = 0.1;
      },
      "kl_estimator");
}

TEST(PpoTrainer, AScorerThatFailsIsNamed) {
  Toy toy;
  toy.problem.score = [](const std::vector<TokenIds>&) { return std::vector<float>{1.0f}; };
  EXPECT_THROW(toy.train(), data::Error);
  toy.problem.score = [](const std::vector<TokenIds>& texts) {
    return std::vector<float>(texts.size(), std::nanf(""));
  };
  EXPECT_THROW(toy.train(), data::Error);
}

}  // namespace
}  // namespace hone::engine
