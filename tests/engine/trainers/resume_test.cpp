// Training taken up again at any of its safe points ends with the same bits as training that went
// through.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "engine/trainers/direct_trainer.h"
#include "engine/trainers/lm_trainer.h"
#include "engine/trainers/ppo_trainer.h"
#include "engine/trainers/reward_trainer.h"
#include "reward/rater_model.h"
#include "tests/data/temporary_directory.h"
#include "tests/engine/trainers/tiny_model.h"
#include "tests/reward/random_records.h"

namespace hone::engine {
namespace {

namespace fs = std::filesystem;

struct Outcome {
  std::vector<at::Tensor> weights;
  nlohmann::json result;   // of the training, times left out
  nlohmann::json metrics;  // lines, times left out
};

nlohmann::json lines_without_times(const fs::path& file) {
  nlohmann::json lines = nlohmann::json::array();
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    auto object = nlohmann::json::parse(line);
    for (const char* time : {"time", "seconds"}) object.erase(time);
    for (auto it = object.begin(); it != object.end();) {
      const bool timed = it.key().find("seconds") != std::string::npos ||
                         it.key().find("memory") != std::string::npos ||
                         it.key().find("mfu") != std::string::npos ||
                         it.key().find("per_second") != std::string::npos;
      it = timed ? object.erase(it) : std::next(it);
    }
    lines.push_back(object);
  }
  return lines;
}

/// One training into `run`, whose checkpoints it may go on from.
using Training = std::function<Outcome(const TrainingContext&)>;

Outcome train_in(const fs::path& run, const Training& training, CheckpointOptions options) {
  Metrics metrics(run, true);
  CheckpointSettings settings;
  settings.folder = run / "checkpoints/train";
  settings.stage = "train";
  settings.recipe = "recipe";
  settings.options = options;
  Checkpointer checkpointer(settings, metrics, world_of_one());
  TrainingContext context(metrics);
  context.checkpointer = &checkpointer;
  auto outcome = training(context);
  outcome.metrics = lines_without_times(run / "metrics.jsonl");
  return outcome;
}

void expect_same(const Outcome& got, const Outcome& expected, const std::string& where) {
  ASSERT_EQ(got.weights.size(), expected.weights.size());
  for (size_t i = 0; i < got.weights.size(); ++i) {
    EXPECT_TRUE(got.weights[i].equal(expected.weights[i])) << where;
  }
  EXPECT_EQ(got.result, expected.result) << where;
  EXPECT_EQ(got.metrics, expected.metrics) << where;
}

/// Goes through once with a save at every safe point, then on from each of them. Saves inside a
/// step are put off while one is being written, so what is there varies; at least `least` are. In
/// memory, where a write takes less than an optimizer step.
void check_every_point(const Training& training, size_t least) {
  if (fs::is_directory("/dev/shm")) setenv("TMPDIR", "/dev/shm", 0);
  data::TemporaryDirectory directory;
  const CheckpointOptions all = {.every_steps = 1, .every_seconds = 1e-9, .keep_last = 100000};
  const Outcome through = train_in(directory / "plain", training, {.every_seconds = 0});
  const auto first = directory / "first";
  expect_same(train_in(first, training, all), through, "saved but never stopped");
  const auto points = CheckpointFolder(first / "checkpoints/train").checkpoints();
  ASSERT_GE(points.size(), least);
  for (size_t keep = points.size(); keep > 0; --keep) {
    const std::string name = points[keep - 1].filename().string();
    const auto run = directory / ("from-" + name);
    fs::copy(first, run, fs::copy_options::recursive);
    for (size_t i = keep; i < points.size(); ++i) {
      fs::remove_all(run / "checkpoints/train" / points[i].filename());
    }
    expect_same(train_in(run, training, {.every_seconds = 0}), through, name);
  }
}

std::vector<TrainingText> corpus() {
  std::vector<TrainingText> texts;
  for (int32_t i = 0; i < 23; ++i) {
    TokenIds tokens;
    for (int32_t t = 0; t < 4 + i % 5; ++t) tokens.push_back((i * 7 + t * 3) % 15 + 1);
    texts.push_back({tokens, i % 3});
  }
  return texts;
}

TEST(Resume, LanguageModelWithMuonAndDropoutOverEpochs) {
  for (const std::string kind : {"adamw", "muon"}) {
    check_every_point(
        [&](const TrainingContext& context) {
          auto model = test::tiny_model(HeadKind::kLanguageModel, at::kFloat, 1);
          LmTrainingOptions options;
          options.epochs = 2.5;
          options.batch_tokens = 32;
          options.micro_tokens = 16;
          options.dropout = 0.2;
          options.optimizer.kind = kind;
          options.optimizer.warmup_steps = 3;
          const auto result = train_lm(*model, corpus(), options, 5, "sft", context);
          return Outcome{{model->parameters().data().clone()},
                         {result.steps, result.tokens, result.final_loss},
                         {}};
        },
        4);
  }
}

TEST(Resume, RewardModelWithItsAverage) {
  data::Records records;
  std::vector<TokenIds> tokens;
  for (int g = 0; g < 6; ++g) {
    for (int i = 0; i < 6; ++i) {
      const int64_t item =
          test::add_item(records, "group " + std::to_string(g), data::Split::kTrain);
      tokens.push_back({1, 3 + (g * 5 + i) % 12, 3 + i, 2});
      for (const char* rater : {"anne", "ben"}) {
        data::Rating rating;
        rating.item = item;
        rating.rater = rater;
        rating.value = (i * 3 + g) % 5 + (rater[0] == 'a');
        records.ratings.push_back(rating);
      }
    }
  }
  check_every_point(
      [&](const TrainingContext& context) {
        auto model = test::tiny_model(HeadKind::kScalar, at::kFloat, 2);
        RewardTrainingOptions options;
        options.epochs = 2.5;
        options.groups_per_batch = 2;
        options.dropout = 0.1;
        options.average_decay = 0.9;
        const auto result =
            train_reward(*model, reward::PreferenceData(records, {}), tokens, options, 3, context);
        return Outcome{{model->parameters().data().clone()}, {result.steps, result.final_loss}, {}};
      },
      3);
}

TEST(Resume, RewardModelWithItsRaters) {
  data::Records records;
  std::vector<TokenIds> tokens;
  for (int g = 0; g < 4; ++g) {
    for (int i = 0; i < 6; ++i) {
      test::add_item(records, "group " + std::to_string(g), data::Split::kTrain);
      tokens.push_back({1, 3 + (g * 5 + i) % 12, 3 + i, 2});
    }
    for (int64_t c = 0; c < 15; ++c) {
      const int64_t first = 6 * g + c % 6, second = 6 * g + (c + 1 + c / 6) % 6;
      const std::string rater = c % 4 == 0 ? "" : c % 4 == 1 ? "anne" : c % 4 == 2 ? "ben" : "cleo";
      auto& comparison = test::add_comparison(records, {first, second},
                                              {uint8_t(c % 3 == 0), uint8_t(c % 5 == 0)}, rater);
      comparison.shown = {uint8_t(c % 2), uint8_t(1 - c % 2)};
    }
  }
  for (const std::string raters : {"one_coin", "side"}) {
    check_every_point(
        [&](const TrainingContext& context) {
          auto model = test::tiny_model(HeadKind::kScalar, at::kFloat, 2);
          RewardTrainingOptions options;
          options.epochs = 2.5;
          options.raters = raters;
          options.items_per_batch = 8;
          options.dropout = 0.1;
          const reward::PreferenceData data(records, {.items_per_batch = 8, .answers = true});
          const auto result = train_reward(*model, data, tokens, options, 3, context);
          nlohmann::json found = {result.steps, result.final_loss};
          for (int64_t r = 0; r < 3; ++r) {
            const auto reliability = result.raters->reliability(r);
            found.push_back({reliability.mean, reliability.low, reliability.side});
          }
          return Outcome{{model->parameters().data().clone()}, found, {}};
        },
        3);
  }
}

TEST(Resume, PolicyInTheMidstOfAnIteration) {
  for (const std::string algorithm : {"ppo", "grpo"}) {
    check_every_point(
        [&](const TrainingContext& context) {
          auto actor = test::tiny_model(HeadKind::kLanguageModel, at::kFloat, 1);
          auto reference = actor->copy(HeadKind::kLanguageModel);
          auto critic = test::tiny_model(HeadKind::kScalar, at::kFloat, 2);
          PpoProblem problem;
          problem.actor = actor.get();
          problem.reference = reference.get();
          problem.critic = algorithm == "ppo" ? critic.get() : nullptr;
          problem.eos_ids = {0};
          problem.seed = 11;
          for (int32_t i = 1; i < 16; ++i)
            problem.prompts.push_back(TokenIds(size_t(1 + i % 3), i));
          problem.score = [](const std::vector<TokenIds>& texts) {
            std::vector<float> scores;
            for (const auto& text : texts) {
              scores.push_back(static_cast<float>(std::count(text.begin(), text.end(), 3)));
            }
            return scores;
          };
          problem.before_iteration = [&](int64_t iteration) {
            context.metrics.record("ppo_eval", iteration, {{"ppo_eval/looked", 1.0}});
          };
          PpoOptions options;
          options.algorithm = algorithm;
          options.iterations = 4;
          options.prompts_per_iteration = 8;
          options.samples_per_prompt = 2;
          options.max_new_tokens = 6;
          options.epochs = 2;
          options.minibatches = 3;
          options.kl_controller = "adaptive";
          options.kl_target = 0.01;
          options.kl_horizon = 100;
          options.placement = algorithm == "ppo" ? "after_last" : "last";
          if (algorithm == "grpo") options.kl_estimator = "k3";
          const auto result = train_ppo(problem, options, context);
          return Outcome{
              {actor->parameters().data().clone(), critic->parameters().data().clone()},
              {result.iterations, result.tokens, result.first_ratio_error, result.first_approx_kl},
              {}};
        },
        5);
  }
}

TEST(Resume, DirectTrainingWithItsReferenceAndLooks) {
  for (const std::string loss : {"dpo", "kto"}) {
    check_every_point(
        [&](const TrainingContext& context) {
          auto policy = test::tiny_model(HeadKind::kLanguageModel, at::kFloat, 1);
          DirectProblem problem;
          problem.policy = policy.get();
          problem.texts = corpus();
          for (auto& text : problem.texts) text.prompt_tokens += 1;
          for (int64_t i = 0; i < 20; i += 2) problem.pairs.push_back({i, i + 1, 1.0, i % 4 / 2.0});
          problem.held_out = {{20, 21, 1.0, 0.0}};
          problem.look_every = 2;
          problem.look = [&](int64_t step, const DirectFigures& held_out) {
            context.metrics.record("direct_eval", step, {{"direct_eval/loss", held_out.loss}});
          };
          problem.seed = 3;
          DirectOptions options;
          options.loss = loss;
          options.epochs = 2.5;
          options.pairs_per_batch = 4;
          options.optimizer.lr = 1e-3;
          const auto result = train_direct(problem, options, context);
          return Outcome{{policy->parameters().data().clone()},
                         {result.steps, result.tokens, result.first_loss, result.before.numbers(),
                          result.after.numbers(), result.training_before.numbers()},
                         {}};
        },
        4);
  }
}

}  // namespace
}  // namespace hone::engine
