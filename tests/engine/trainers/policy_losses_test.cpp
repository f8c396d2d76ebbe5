// The policy losses and baselines beside PPO's: gradients against autograd over full logits, what
// is added to a text's score, and what is refused.

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "data/error.h"
#include "engine/packing/random_order.h"
#include "engine/rollout/collector.h"
#include "engine/trainers/ppo_advantages.h"
#include "engine/trainers/ppo_trainer.h"
#include "engine/trainers/ppo_update.h"
#include "engine/trainers/ppo_validation.h"
#include "tests/engine/trainers/tiny_model.h"
#include "tests/support/expect_close.h"

namespace hone::engine {
namespace {

constexpr int64_t kGroup = 4, kEos = 0;

/// A scored rollout whose policy has moved since.
class PolicyLossesTest : public ::testing::Test {
 protected:
  PolicyLossesTest()
      : actor_(test::tiny_model(HeadKind::kLanguageModel, at::kDouble, 1)),
        reference_(test::tiny_model(HeadKind::kLanguageModel, at::kDouble, 2)) {
    std::vector<TokenIds> prompts;
    for (int32_t i = 0; i < 5; ++i) prompts.push_back(TokenIds(size_t(1 + i % 3), i));
    rollout_ = sample_texts(
        *actor_, prompts,
        {.samples_per_prompt = kGroup, .max_new_tokens = 7, .eos_ids = {kEos}, .seed = 5});
    const auto score = [](const std::vector<TokenIds>& texts) {
      std::vector<float> scores;
      for (const auto& text : texts) scores.push_back(std::sin(float(text.size() + text.back())));
      return scores;
    };
    score_texts(rollout_, score, {});
    const auto zeros = at::zeros_like(rollout_.behaviour_logprobs);
    rollout_.old_logprobs = zeros.clone();
    rollout_.ref_logprobs = zeros.clone();
    rollout_.values = zeros.clone();
    at::Tensor none;
    for (const auto& pack : whole(0)) {
      score_policy(*actor_, pack, 1.0, rollout_.old_logprobs, none);
      score_policy(*reference_, pack, 1.0, rollout_.ref_logprobs, none);
    }
    const at::NoGradGuard no_grad;
    auto& data = actor_->parameters().data();
    data.add_(at::sin(at::arange(data.numel(), data.options())), 0.01);
    actor_->parameters().enable_grad();
  }

  Minibatch whole(int64_t micro_tokens, uint64_t shuffle = 0) const {
    return make_minibatches(rollout_, random_order(rollout_.size(), 9, shuffle),
                            {.micro_tokens = micro_tokens, .aggregation = "seq_mean_token_mean"})
        .at(0);
  }

  double at(const at::Tensor& values, int64_t i) const { return values[i].item<double>(); }

  std::unique_ptr<CausalLM> actor_, reference_;
  Rollout rollout_;
};

/// The published loss of one text, token by token, from its log-probabilities with gradient.
at::Tensor published(const PpoOptions& o, const at::Tensor& now, const at::Tensor& old,
                     const at::Tensor& advantage) {
  const auto log_ratio = now - old;
  const auto clipped = [&](const at::Tensor& ratio, double low, double high) {
    return at::maximum(-advantage * ratio, -advantage * at::clamp(ratio, 1 - low, 1 + high));
  };
  if (o.policy_loss == "gspo") return clipped(log_ratio.mean().exp().expand_as(now), 3e-4, 4e-4);
  if (o.policy_loss == "gspo_token") {
    const auto mean = log_ratio.mean().detach();
    return clipped((mean + now - now.detach()).exp(), 3e-4, 4e-4);
  }
  if (o.policy_loss == "rloo") return clipped(log_ratio.sum().exp().expand_as(now), 0.2, 0.2);
  if (o.policy_loss == "cispo") {
    return -at::clamp(log_ratio.exp().detach(), 0.0, 5.0) * advantage * now;
  }
  if (o.policy_loss == "sapo") {
    const auto tau = at::where(advantage > 0, at::full_like(now, 1.0), at::full_like(now, 1.05));
    return -advantage * 4 / tau * at::sigmoid(tau * (log_ratio.exp() - 1));
  }
  if (o.policy_loss == "reinforce") return -advantage * now;
  return clipped(log_ratio.exp(), 0.2, 0.2);
}

TEST_F(PolicyLossesTest, GradientsEqualAutogradOverFullLogitsHoweverPacked) {
  for (const std::string loss :
       {"ppo", "gspo", "gspo_token", "rloo", "cispo", "sapo", "reinforce"}) {
    PpoOptions options;
    options.algorithm = "grpo";
    options.samples_per_prompt = kGroup;
    options.policy_loss = loss;
    options.kl_estimator = "k3";
    options.kl_coef = 0.2;
    options.sampler_weight = "token_mask";
    options.sampler_weight_low = 0.5;
    check_online_options(options, "test", "");
    rollout_.behaviour_logprobs =
        rollout_.old_logprobs + 0.4 * at::sin(at::arange(rollout_.entries(), at::kDouble));
    estimate_advantages(rollout_, options, options.kl_coef);
    const PolicyObjective objective = {.loss = policy_loss_options(options, options.kl_coef),
                                       .weighs_sampler = true};
    at::Tensor total = at::zeros({}, at::kDouble);
    for (int64_t i = 0; i < rollout_.size(); ++i) {
      const auto& text = rollout_.texts[size_t(i)];
      const auto input = pack({text.tokens});
      const auto logits = actor_->hidden(input.tokens, input.cu_seqlens).mm(actor_->lm_head().t());
      const int64_t tokens = rollout_.response_tokens(i), entry = rollout_.offsets[size_t(i)];
      const auto now =
          at::log_softmax(logits, 1)
              .narrow(0, text.prompt_tokens - 1, tokens)
              .gather(1, input.tokens.narrow(0, text.prompt_tokens, tokens).view({-1, 1}))
              .view({-1});
      const auto of_text = [&](const at::Tensor& x) { return x.narrow(0, entry, tokens); };
      const auto old = of_text(rollout_.old_logprobs);
      auto weight = (old - of_text(rollout_.behaviour_logprobs)).exp();
      weight = at::where(weight < 0.5, at::zeros_like(weight), weight);
      const auto d = now - of_text(rollout_.ref_logprobs);
      const auto each = weight * published(options, now, old, of_text(rollout_.advantages)) +
                        0.2 * (at::exp(-d) - 1 + d);
      total = total + each.mean() / double(rollout_.size());
    }
    actor_->parameters().zero_grad();
    total.backward();
    const auto want = actor_->parameters().grad().clone();
    for (const int64_t micro : {0, 23}) {
      actor_->parameters().zero_grad();
      const auto update =
          accumulate_policy_gradients(*actor_, rollout_, whole(micro, uint64_t(micro)), objective);
      EXPECT_NEAR(update.loss, total.item<double>(), 1e-12) << loss;
      test::expect_close(actor_->parameters().grad(), want, 1e-12);
    }
    EXPECT_GT(want.abs().max().item<double>(), 1e-4) << loss;
  }
}

TEST_F(PolicyLossesTest, PairsOfSamplesAreTrainedOnAsDpoHasThem) {
  PpoOptions options;
  options.algorithm = "online_dpo";
  options.samples_per_prompt = 2;  // of each prompt's four samples: two pairs
  options.kl_coef = 0.4;
  check_online_options(options, "test", "");
  rollout_.scores[2].copy_(rollout_.scores[3]);  // a tie
  const auto summary = estimate_advantages(rollout_, options, 0.4);
  at::Tensor total = at::zeros({}, at::kDouble);
  double margin = 0;
  for (int64_t pair = 0; pair < rollout_.size() / 2; ++pair) {
    at::Tensor h[2];
    for (int64_t side = 0; side < 2; ++side) {
      const int64_t i = 2 * pair + side;
      const auto& text = rollout_.texts[size_t(i)];
      const auto input = pack({text.tokens});
      const auto logits = actor_->hidden(input.tokens, input.cu_seqlens).mm(actor_->lm_head().t());
      const int64_t tokens = rollout_.response_tokens(i);
      const auto targets = input.tokens.narrow(0, text.prompt_tokens, tokens).view({-1, 1});
      const auto now =
          at::log_softmax(logits, 1).narrow(0, text.prompt_tokens - 1, tokens).gather(1, targets);
      h[side] =
          now.sum() - rollout_.ref_logprobs.narrow(0, rollout_.offsets[size_t(i)], tokens).sum();
    }
    const double difference = at(rollout_.scores, 2 * pair) - at(rollout_.scores, 2 * pair + 1);
    if (difference == 0) continue;
    const auto ahead = difference > 0 ? h[0] - h[1] : h[1] - h[0];
    total = total - at::log_sigmoid(0.4 * ahead) / double(rollout_.size() / 2);
    margin += 0.4 * ahead.item<double>() / double(rollout_.size() / 2);
  }
  total.backward();
  const auto want = actor_->parameters().grad().clone();
  for (const int64_t micro : {0, 40}) {
    actor_->parameters().zero_grad();
    const auto minibatch = make_minibatches(
        rollout_, random_order(rollout_.size() / 2, 9, uint64_t(micro)),
        {.micro_tokens = micro, .aggregation = "seq_mean_token_sum", .together = 2});
    const auto update = accumulate_policy_gradients(*actor_, rollout_, minibatch.at(0),
                                                    {.loss = {}, .pair_beta = 0.4});
    EXPECT_NEAR(update.loss, total.item<double>(), 1e-12);
    EXPECT_NEAR(update.margin, margin, 1e-12);
    test::expect_close(actor_->parameters().grad(), want, 1e-12);
  }
  double kl = 0, score = 0;
  for (int64_t i = 0; i < rollout_.size(); ++i) score += at(rollout_.scores, i);
  kl = summary.kl * double(rollout_.size());
  EXPECT_NEAR(summary.reward, (score - 0.4 * kl) / double(rollout_.size()), 1e-10);
}

TEST_F(PolicyLossesTest, ReinforceAdvantagesEqualAPlainLoop) {
  for (const bool baseline : {false, true}) {
    PpoOptions options;
    options.algorithm = baseline ? "reinforce_pp_baseline" : "reinforce_pp";
    options.samples_per_prompt = kGroup;
    options.kl_place = "reward";
    options.gamma = 0.9;
    const auto summary = estimate_advantages(rollout_, options, 0.3);
    std::vector<double> want(size_t(rollout_.entries()));
    double reward_sum = 0;
    for (int64_t i = 0; i < rollout_.size(); ++i) {
      double centre = 0;
      const int64_t first = i / kGroup * kGroup;
      for (int64_t j = first; baseline && j < first + kGroup; ++j) {
        centre += at(rollout_.scores, j) / double(kGroup);
      }
      double to_come = 0;
      for (int64_t e = rollout_.offsets[size_t(i) + 1]; e-- > rollout_.offsets[size_t(i)];) {
        const bool last = e + 1 == rollout_.offsets[size_t(i) + 1];
        const double kl = at(rollout_.old_logprobs, e) - at(rollout_.ref_logprobs, e);
        to_come = 0.9 * to_come + (last ? at(rollout_.scores, i) - centre : 0.0) - 0.3 * kl;
        reward_sum += (last ? at(rollout_.scores, i) : 0.0) - 0.3 * kl;
        want[size_t(e)] = to_come;
      }
    }
    double mean = 0, square = 0;
    const auto n = double(want.size());
    for (const double x : want) mean += x / n;
    for (const double x : want) square += (x - mean) * (x - mean);
    const double std = std::sqrt(square / (n - 1) + 1e-8);
    for (size_t e = 0; e < want.size(); ++e) {
      EXPECT_NEAR(at(rollout_.advantages, int64_t(e)), (want[e] - mean) / std, 1e-9);
    }
    EXPECT_NEAR(summary.reward, reward_sum / double(rollout_.size()), 1e-9);
  }
}

TEST_F(PolicyLossesTest, WhereTheKlIsPut) {
  PpoOptions options;
  options.algorithm = "grpo";
  options.samples_per_prompt = kGroup;
  const auto advantages = [&](const std::string& place, double coef) {
    options.kl_place = place;
    estimate_advantages(rollout_, options, coef);
    return rollout_.advantages.clone();
  };
  EXPECT_TRUE(at::equal(advantages("loss", 0.5), advantages("loss", 0.0)));
  EXPECT_TRUE(at::equal(advantages("auto", 0.5), advantages("loss", 0.0)));
  EXPECT_FALSE(at::allclose(advantages("reward", 0.5), advantages("loss", 0.0), 1e-3, 1e-3));
  EXPECT_EQ(policy_loss_options(options, 0.5).kl_coef, 0.0);
  options.kl_place = "loss";
  EXPECT_EQ(policy_loss_options(options, 0.5).kl_coef, 0.5);
}

TEST(OverlongScore, FallsLinearlyOverTheLastTokens) {
  EXPECT_EQ(overlong_score(6, 10, 4, 2.0), 0.0);
  EXPECT_DOUBLE_EQ(overlong_score(7, 10, 4, 2.0), -0.5);
  EXPECT_DOUBLE_EQ(overlong_score(10, 10, 4, 2.0), -2.0);
  EXPECT_EQ(overlong_score(10, 10, 0, 2.0), 0.0);
}

/// A policy paid for each token 3.
struct Toy {
  Toy()
      : actor(test::tiny_model(HeadKind::kLanguageModel, at::kFloat, 1)),
        reference(actor->copy(HeadKind::kLanguageModel)) {
    problem.actor = actor.get();
    problem.reference = reference.get();
    problem.eos_ids = {kEos};
    problem.seed = 11;
    for (int32_t i = 1; i < 16; ++i) problem.prompts.push_back(TokenIds(size_t(1 + i % 3), i));
    problem.score = [this](const std::vector<TokenIds>& texts) {
      ++calls;
      std::vector<float> scores;
      double sum = 0;
      for (const auto& text : texts) {
        scores.push_back(float(std::count(text.begin(), text.end(), 3)));
        sum += scores.back();
      }
      mean = sum / double(texts.size());
      return scores;
    };
    options.algorithm = "grpo";
    options.iterations = 12;
    options.prompts_per_iteration = 8;
    options.samples_per_prompt = 4;
    options.max_new_tokens = 8;
    options.temperature = 0.8;
    options.kl_coef = 0.0;
    options.missing_eos = "keep";
    options.epochs = 2;
    options.minibatches = 2;
    options.actor.lr = 3e-3;
  }
  PpoResult train() {
    Metrics metrics({}, true);
    return train_ppo(problem, options, metrics);
  }
  std::unique_ptr<CausalLM> actor, reference;
  PpoProblem problem;
  PpoOptions options;
  double mean = 0;
  int calls = 0;
};

TEST(PolicyLosses, EveryOneLearnsFromARatioOfExactlyOne) {
  for (const std::string loss : {"gspo", "gspo_token", "rloo", "cispo", "sapo", "reinforce"}) {
    Toy toy;
    toy.options.policy_loss = loss;
    if (loss == "reinforce") toy.options.epochs = 1;
    // Clipped after the first step of a rollout: that step is all there is of an iteration.
    if (loss.rfind("gspo", 0) == 0) toy.options.iterations = 25;
    const auto result = toy.train();
    EXPECT_GT(toy.mean, 4.0) << loss;
    EXPECT_EQ(result.first_ratio_error, 0.0) << loss;
  }
  for (const std::string algorithm : {"reinforce_pp", "reinforce_pp_baseline", "online_dpo"}) {
    Toy toy;
    toy.options.algorithm = algorithm;
    if (algorithm == "online_dpo") {
      toy.options.samples_per_prompt = 2;
      toy.options.prompts_per_iteration = 16;
      toy.options.kl_coef = 0.05;
      toy.options.iterations = 20;
    }
    const auto result = toy.train();
    EXPECT_GT(toy.mean, 4.0) << algorithm;
    EXPECT_EQ(result.first_ratio_error, 0.0) << algorithm;
  }
}

TEST(DynamicSampling, FillsTheRolloutWithGroupsThatDiffer) {
  const auto model = test::tiny_model(HeadKind::kLanguageModel, at::kFloat, 1);
  int64_t asked = 0;
  const auto round = [&](int64_t n) {
    EXPECT_EQ(n, asked++);
    std::vector<TokenIds> prompts;
    for (int32_t i = 1; i <= 6; ++i) prompts.push_back({i, int32_t(n)});
    auto rollout = sample_texts(
        *model, prompts, {.samples_per_prompt = 2, .max_new_tokens = 4, .eos_ids = {}, .seed = n});
    // Prompts 1, 2, ... of every round: odd ones have one score for both samples.
    const auto score = [](const std::vector<TokenIds>& texts) {
      std::vector<float> scores;
      for (size_t i = 0; i < texts.size(); ++i) {
        scores.push_back(texts[i][0] % 2 == 1 ? 7.0f : float(i));
      }
      return scores;
    };
    score_texts(rollout, score, {});
    return rollout;
  };
  const auto full = groups_that_differ(5, 2, 9, round);
  EXPECT_EQ(asked, 2);
  EXPECT_EQ(full.rounds, 2);
  EXPECT_EQ(full.flat, 0);
  ASSERT_EQ(full.rollout.size(), 10);
  const std::vector<TokenIds> prompts = {{2, 0}, {4, 0}, {6, 0}, {2, 1}, {4, 1}};
  for (int64_t i = 0; i < 10; ++i) {
    const auto& text = full.rollout.texts[size_t(i)];
    EXPECT_EQ(TokenIds(text.tokens.begin(), text.tokens.begin() + 2), prompts[size_t(i / 2)]);
    EXPECT_EQ(full.rollout.scores[i].item<double>(), full.rollout.raw_scores[size_t(i)]);
  }
  EXPECT_EQ(full.rollout.behaviour_logprobs.numel(), full.rollout.entries());
  EXPECT_LT(full.rollout.behaviour_logprobs.max().item<double>(), 0.0);
  asked = 0;
  const auto short_of = groups_that_differ(5, 2, 1, round);  // three differ in a round
  EXPECT_EQ(short_of.rollout.size(), 10);
  EXPECT_EQ(short_of.flat, 2);
}

TEST(DynamicSampling, InTrainingGoesOnToOtherPrompts) {
  Toy toy;
  toy.options.iterations = 2;
  toy.options.sampling_rounds = 3;
  toy.problem.score = [&](const std::vector<TokenIds>& texts) {
    ++toy.calls;
    return std::vector<float>(texts.size(), 1.0f);
  };
  const auto before = toy.actor->parameters().data().clone();
  toy.train();
  EXPECT_EQ(toy.calls, 6);  // nothing ever differs, so nothing is learned
  EXPECT_TRUE(at::equal(before, toy.actor->parameters().data()));
}

TEST(PolicyLosses, ContradictionsNameTheOption) {
  const auto refuses = [](auto change, const std::string& option) {
    PpoOptions options;
    change(options);
    try {
      check_online_options(options, "recipe.toml", "train.ppo.");
      ADD_FAILURE() << option << ": no error";
    } catch (const data::InputError& error) {
      EXPECT_NE(std::string(error.what()).find("train.ppo." + option + ":"), std::string::npos)
          << error.what();
    }
  };
  refuses([](PpoOptions& o) { o.policy_loss = "gspo"; }, "policy_loss");
  refuses([](PpoOptions& o) { o.policy_loss = "trpo"; }, "policy_loss");
  refuses([](PpoOptions& o) { o.kl_place = "loss"; }, "kl_estimator");
  refuses([](PpoOptions& o) { o.sampling_rounds = 2; }, "sampling_rounds");
  refuses([](PpoOptions& o) { o.overlong_tokens = 41; }, "overlong_tokens");
  refuses([](PpoOptions& o) { o.policy_loss = "sapo", o.clip = 0.2; }, "clip");
  refuses([](PpoOptions& o) { o.policy_loss = "cispo", o.dual_clip = 3; }, "dual_clip");
  refuses([](PpoOptions& o) { o.policy_loss = "reinforce", o.epochs = 2; }, "epochs");
  refuses([](PpoOptions& o) { o.algorithm = "online_dpo"; }, "samples_per_prompt");
  refuses(
      [](PpoOptions& o) { o.algorithm = "online_dpo", o.samples_per_prompt = 2, o.kl_coef = 0; },
      "kl_coef");
  const auto of_groups = [&](auto change, const std::string& option) {
    refuses(
        [&](PpoOptions& o) {
          o.algorithm = "grpo";
          o.samples_per_prompt = 4;
          o.kl_coef = 0;
          change(o);
        },
        option);
  };
  of_groups([](PpoOptions& o) { o.samples_per_prompt = 1; }, "samples_per_prompt");
  of_groups([](PpoOptions& o) { o.gamma = 0.9; }, "gamma");
  of_groups([](PpoOptions& o) { o.whiten_rewards = true; }, "whiten_rewards");
  of_groups([](PpoOptions& o) { o.placement = "after_last"; }, "placement");
  of_groups([](PpoOptions& o) { o.value_clip = 0.2; }, "value_clip");
  of_groups([](PpoOptions& o) { o.old_logprobs = "rollout", o.sampler_weight = "token_mask"; },
            "sampler_weight");
  of_groups([](PpoOptions& o) { o.sampler_weight_low = 3; }, "sampler_weight_high");
}

}  // namespace
}  // namespace hone::engine
