#include "engine/trainers/reward_trainer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "data/error.h"
#include "reward/evaluation.h"
#include "reward/rater_model.h"
#include "tests/reward/random_records.h"

namespace hone::engine {
namespace {

using data::Records;
using reward::PreferenceData;

constexpr int32_t kBos = 1, kEos = 2, kGood = 5, kBad = 6, kVocabulary = 16;

ModelConfig tiny_config() {
  ModelConfig config;
  config.vocab_size = kVocabulary;
  config.hidden_size = 16;
  config.intermediate_size = 24;
  config.layers = 1;
  config.heads = 2;
  config.kv_heads = 2;
  config.head_dim = 8;
  config.max_positions = 32;
  config.tie_embeddings = true;
  return config;
}

std::unique_ptr<CausalLM> tiny_model(at::ScalarType dtype, uint64_t seed = 1) {
  auto model = std::make_unique<CausalLM>(tiny_config(), HeadKind::kScalar, dtype);
  model->initialize(seed);
  return model;
}

/// People rate a text by its good tokens minus its bad ones.
struct Planted {
  Records records;
  std::vector<TokenIds> tokens;
};

Planted planted(int groups, unsigned seed) {
  std::mt19937 random(seed);
  Planted out;
  for (int g = 0; g < groups; ++g) {
    const auto split = g % 3 == 2 ? data::Split::kTest : data::Split::kTrain;
    for (int i = 0; i < 8; ++i) {
      const int64_t item = test::add_item(out.records, "group " + std::to_string(100 + g), split);
      TokenIds ids = {kBos};
      double value = 0.0;
      for (unsigned t = 0; t < 3 + random() % 8; ++t) {
        const auto token = static_cast<int32_t>(3 + random() % (kVocabulary - 3));
        value += token == kGood ? 1.0 : token == kBad ? -1.0 : 0.0;
        ids.push_back(token);
      }
      ids.push_back(kEos);
      out.tokens.push_back(ids);
      for (const char* rater : {"anne", "ben"}) {
        data::Rating rating;
        rating.item = item;
        rating.rater = rater;
        rating.value = value;
        out.records.ratings.push_back(rating);
      }
    }
  }
  return out;
}

RewardTrainingOptions quick_options(double epochs) {
  RewardTrainingOptions options;
  options.epochs = epochs;
  options.dropout = 0.0;
  options.optimizer.lr = 1e-2;
  options.optimizer.schedule = "linear";
  return options;
}

TEST(RewardTrainer, LearnsAPlantedRuleOnUnseenTexts) {
  const Planted data = planted(90, 1);
  auto model = tiny_model(at::kFloat);
  Metrics metrics({}, true);
  const PreferenceData train(data.records, {});
  const auto result = train_reward(*model, train, data.tokens, quick_options(20), 3, metrics);
  EXPECT_EQ(result.steps, 20 * train.batches_per_epoch());
  const PreferenceData held(data.records, {.split = data::Split::kTest});
  const auto scores = score_sequences(*model, data.tokens);
  EXPECT_GT(reward::pair_accuracy(scores, held.votes(false, 4000, 1)), 0.95);
  EXPECT_GT(reward::pair_accuracy(scores, held.votes(true, 4000, 1)), 0.95);
}

TEST(RewardTrainer, LossOfAStepIsThatOfTheFormula) {
  const Planted data = planted(6, 2);
  auto model = tiny_model(at::kDouble);
  const PreferenceData train(data.records, {});
  const auto batch = train.epoch(9, 0)[0];
  const auto scores = score_sequences(*model, data.tokens);
  double want = 0.0;
  for (const auto& pair : batch.pairs) {
    const double delta = scores[static_cast<size_t>(batch.items[pair.first])] -
                         scores[static_cast<size_t>(batch.items[pair.second])];
    const double p = 0.1 + 0.8 / (1.0 + std::exp(-delta));  // lapse 0.1
    want -= pair.weight * (pair.target * std::log(p) + (1.0 - pair.target) * std::log(1.0 - p));
  }
  Metrics metrics({}, true);
  auto options = quick_options(1e-9);  // one step
  options.lapse = 0.1;
  options.centering = 10.0;  // is not part of the loss reported
  const auto result = train_reward(*model, train, data.tokens, options, 9, metrics);
  EXPECT_EQ(result.steps, 1);
  EXPECT_NEAR(result.final_loss, want, 1e-6);
}

/// The rule: after step t the average is sum_k d^(t-k) (1-d) w_k / (1 - d^t). Runs of 1, 2 and 3
/// steps on a constant rate give w_1, w_2, w_3.
TEST(RewardTrainer, KeepsTheMovingAverageOfItsSteps) {
  const Planted data = planted(30, 5);
  const PreferenceData train(data.records, {});
  const auto weights_after = [&](int64_t steps, double decay) {
    auto model = tiny_model(at::kDouble);
    Metrics metrics({}, true);
    auto options =
        quick_options(static_cast<double>(steps) / static_cast<double>(train.batches_per_epoch()));
    options.optimizer.schedule = "constant";
    options.average_decay = decay;
    EXPECT_EQ(train_reward(*model, train, data.tokens, options, 3, metrics).steps, steps);
    return model->parameters().data().clone();
  };
  const double d = 0.7;
  const at::Tensor want =
      (weights_after(1, 0.0) * d * d + weights_after(2, 0.0) * d + weights_after(3, 0.0)) *
      ((1.0 - d) / (1.0 - d * d * d));
  EXPECT_LT((weights_after(3, d) - want).abs().max().item<double>(), 1e-12);
}

TEST(RewardTrainer, CenteringPullsTheMeanScoreToZero) {
  const Planted data = planted(12, 3);
  const auto mean_score = [&](double centering) {
    auto model = tiny_model(at::kFloat);
    // A constant in every hidden state: scores start far from zero.
    model->parameters().slice("score.weight").add_(1.0);
    model->parameters().slice("model.embed_tokens.weight").add_(0.5);
    Metrics metrics({}, true);
    auto options = quick_options(30);
    options.centering = centering;
    train_reward(*model, PreferenceData(data.records, {}), data.tokens, options, 1, metrics);
    double sum = 0.0;
    for (const float score : score_sequences(*model, data.tokens)) sum += score;
    return std::abs(sum / static_cast<double>(data.tokens.size()));
  };
  const double free = mean_score(0.0), centred = mean_score(0.1);
  EXPECT_GT(free, 1.0);
  EXPECT_LT(centred, 0.1 * free);
}

TEST(RewardTrainer, OrderOfItemsInABatchDoesNotMatter) {
  const Planted data = planted(9, 4);
  Planted reversed;
  const auto last = static_cast<int64_t>(data.tokens.size()) - 1;
  reversed.records.items.assign(data.records.items.rbegin(), data.records.items.rend());
  reversed.tokens.assign(data.tokens.rbegin(), data.tokens.rend());
  reversed.records.ratings = data.records.ratings;
  for (auto& rating : reversed.records.ratings) rating.item = last - rating.item;

  const auto train = [](const Planted& planted) {
    auto model = tiny_model(at::kDouble);
    Metrics metrics({}, true);
    train_reward(*model, PreferenceData(planted.records, {}), planted.tokens, quick_options(3), 5,
                 metrics);
    return model->parameters().data().clone();
  };
  const at::Tensor a = train(data), b = train(reversed);
  EXPECT_LT((a - b).abs().max().item<double>(), 1e-10);
  EXPECT_GT((a - tiny_model(at::kDouble)->parameters().data()).abs().max().item<double>(), 1e-3);
}

TEST(RewardTrainer, SameSeedSameBitsWithDropoutWhichEndsWithTraining) {
  const Planted data = planted(9, 5);
  const auto train = [&](uint64_t seed) {
    auto model = tiny_model(at::kFloat);
    Metrics metrics({}, true);
    auto options = quick_options(2);
    options.dropout = 0.3;
    train_reward(*model, PreferenceData(data.records, {}), data.tokens, options, seed, metrics);
    EXPECT_EQ(score_sequences(*model, data.tokens), score_sequences(*model, data.tokens));
    return model->parameters().data().clone();
  };
  const at::Tensor a = train(1);
  EXPECT_TRUE(at::equal(a, train(1)));
  EXPECT_FALSE(at::equal(a, train(2)));
}

TEST(RewardTrainer, ExplicitComparisonsTrainToo) {
  Planted data = planted(60, 6);
  std::mt19937 random(1);
  for (size_t group = 0; group < data.records.items.size() / 8; ++group) {
    for (int c = 0; c < 12; ++c) {
      const auto a = static_cast<int64_t>(group * 8 + random() % 8);
      const auto b = static_cast<int64_t>(group * 8 + random() % 8);
      if (a == b) continue;
      const double delta = data.records.ratings[static_cast<size_t>(2 * a)].value -
                           data.records.ratings[static_cast<size_t>(2 * b)].value;
      const uint8_t ra = delta<0.0, rb = delta> 0.0;
      test::add_comparison(data.records, {a, b}, {ra, rb}, "anne");
    }
  }
  data.records.ratings.clear();
  auto model = tiny_model(at::kFloat);
  Metrics metrics({}, true);
  train_reward(*model, PreferenceData(data.records, {.items_per_batch = 32}), data.tokens,
               quick_options(20), 1, metrics);
  const PreferenceData held(data.records, {.split = data::Split::kTest});
  const auto votes = held.votes(true, 1000, 1);
  EXPECT_GT(votes.size(), 100u);
  EXPECT_GT(reward::pair_accuracy(score_sequences(*model, data.tokens), votes), 0.95);
}

/// Explicit comparisons of planted texts; every second rater answers the wrong way round.
Records with_liars(const Planted& data, int raters, unsigned seed) {
  Records records = data.records;
  records.ratings.clear();
  std::mt19937 random(seed);
  const auto groups = static_cast<int>(records.items.size() / 8);
  for (int c = 0; c < 40 * groups; ++c) {
    const auto group = static_cast<int64_t>(c % groups);
    const auto a = group * 8 + static_cast<int64_t>(random() % 8);
    const auto b = group * 8 + static_cast<int64_t>(random() % 8);
    const double delta = data.records.ratings[static_cast<size_t>(2 * a)].value -
                         data.records.ratings[static_cast<size_t>(2 * b)].value;
    if (delta == 0.0) continue;
    const auto rater = random() % static_cast<unsigned>(raters);
    const bool lies = rater % 5 >= 3;
    const uint8_t first_loses = (delta < 0.0) != lies;
    test::add_comparison(records, {a, b}, {first_loses, uint8_t(1 - first_loses)},
                         "rater " + std::to_string(rater));
  }
  return records;
}

TEST(RewardTrainer, LearnsWhoAnswersTheWrongWayRound) {
  const Planted data = planted(60, 11);
  const Records records = with_liars(data, 20, 12);
  const PreferenceData train(records, {.items_per_batch = 32, .answers = true});
  const PreferenceData held(data.records, {.split = data::Split::kTest});
  Metrics metrics({}, true);
  const auto accuracy = [&](const std::string& raters, RewardTrainingResult* out) {
    auto model = tiny_model(at::kFloat);
    auto options = quick_options(6);
    options.raters = raters;
    const auto result = train_reward(*model, train, data.tokens, options, 1, metrics);
    if (out != nullptr) *out = result;
    return reward::pair_accuracy(score_sequences(*model, data.tokens), held.votes(true, 2000, 1));
  };
  RewardTrainingResult result;
  const double equal = accuracy("equal", &result);
  EXPECT_EQ(result.raters, nullptr);
  EXPECT_GT(accuracy("one_coin", &result), std::max(0.9, equal + 0.05)) << equal;
  for (int64_t r = 0; r < result.raters->raters(); ++r) {
    const auto& name = train.rater_names()[static_cast<size_t>(r)];
    const bool lies = std::stoi(name.substr(6)) % 5 >= 3;
    const auto found = result.raters->reliability(r);
    EXPECT_GT(found.answers, 30) << name;
    if (lies) {
      EXPECT_LT(found.high, 0.5) << name;
    } else {
      EXPECT_GT(found.low, 0.5) << name;
    }
  }
}

TEST(RewardTrainer, RatersAreLearnedAlikeInAnyNumberOfShards) {
  const Planted data = planted(6, 13);
  const Records records = with_liars(data, 5, 14);
  const PreferenceData train(records, {.items_per_batch = 32, .answers = true});
  const auto losses = [&](int64_t shards) {
    auto model = tiny_model(at::kDouble);
    Metrics metrics({}, true);
    TrainingContext context(metrics);
    context.shards = shards;
    auto options = quick_options(3);
    options.raters = "side";
    const auto result = train_reward(*model, train, data.tokens, options, 1, context);
    return std::pair(result.final_loss, result.raters->reliability(0).mean);
  };
  const auto one = losses(1), four = losses(4);
  EXPECT_NEAR(one.first, four.first, 1e-6);
  EXPECT_NEAR(one.second, four.second, 1e-6);
}

TEST(RewardTrainer, RatersWantBradleyTerryWithoutLapses) {
  const Planted data = planted(6, 7);
  const PreferenceData train(data.records, {.answers = true});
  auto model = tiny_model(at::kFloat);
  Metrics metrics({}, true);
  const auto attempt = [&](const std::string& raters, const std::string& loss, double lapse) {
    auto options = quick_options(1);
    options.raters = raters;
    options.loss = loss;
    options.tie = 1.0;
    options.lapse = lapse;
    EXPECT_THROW(train_reward(*model, train, data.tokens, options, 1, metrics), data::InputError)
        << raters << loss << lapse;
  };
  attempt("two_coins", "bradley_terry", 0.0);
  attempt("one_coin", "davidson", 0.0);
  attempt("side", "bradley_terry", 0.1);
}

TEST(RewardTrainer, BadInputIsAnInputError) {
  const Planted data = planted(6, 7);
  const PreferenceData train(data.records, {});
  Metrics metrics({}, true);
  const auto attempt = [&](CausalLM& model, const PreferenceData& preferences,
                           const std::vector<TokenIds>& tokens,
                           const RewardTrainingOptions& options) {
    EXPECT_THROW(train_reward(model, preferences, tokens, options, 1, metrics), data::InputError);
  };
  auto model = tiny_model(at::kFloat);
  CausalLM language_model(tiny_config(), HeadKind::kLanguageModel);
  attempt(language_model, train, data.tokens, quick_options(1));
  attempt(*model, PreferenceData(Records{}, {}), data.tokens, quick_options(1));
  attempt(*model, train, {data.tokens[0]}, quick_options(1));
  attempt(*model, train, data.tokens, quick_options(0));
  auto options = quick_options(1);
  options.loss = "bradley-terry";
  attempt(*model, train, data.tokens, options);
  options.loss = "rao_kupper";
  options.tie = 0.5;
  attempt(*model, train, data.tokens, options);
}

TEST(ScoreSequences, BatchesChangeNothingAndOrderIsKept) {
  const Planted data = planted(5, 8);
  auto model = tiny_model(at::kDouble);
  const auto whole = score_sequences(*model, data.tokens);
  const auto small = score_sequences(*model, data.tokens, 10);
  ASSERT_EQ(whole.size(), data.tokens.size());
  for (size_t i = 0; i < whole.size(); ++i) {
    EXPECT_NEAR(whole[i], small[i], 1e-6);
    EXPECT_NEAR(whole[i], score_sequences(*model, {data.tokens[i]})[0], 1e-6);
  }
  EXPECT_TRUE(score_sequences(*model, {}).empty());
  EXPECT_THROW(score_sequences(*model, {TokenIds{}}), data::InputError);
}

}  // namespace
}  // namespace hone::engine
