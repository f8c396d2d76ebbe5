// The gradients of one minibatch: against autograd over full logits, and whatever the packing.

#include "engine/trainers/ppo_update.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cmath>

#include "engine/packing/random_order.h"
#include "engine/rollout/collector.h"
#include "engine/trainers/ppo_advantages.h"
#include "tests/engine/trainers/tiny_model.h"
#include "tests/support/expect_close.h"

namespace hone::engine {
namespace {

constexpr double kTemperature = 0.7;

class PpoUpdateTest : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    actor_ = test::tiny_model(HeadKind::kLanguageModel, at::kDouble, 1);
    reference_ = test::tiny_model(HeadKind::kLanguageModel, at::kDouble, 2);
    critic_ = test::tiny_model(HeadKind::kScalar, at::kDouble, 3);
    std::vector<TokenIds> prompts;
    for (int32_t i = 0; i < 12; ++i) prompts.push_back(TokenIds(size_t(1 + i % 3), i));
    rollout_ = sample_texts(*actor_, prompts,
                            {.samples_per_prompt = 2,
                             .max_new_tokens = 8,
                             .temperature = kTemperature,
                             .eos_ids = {0},
                             .seed = 5,
                             .final_states = GetParam()});
    score_texts(rollout_,
                [](const std::vector<TokenIds>& texts) {
                  std::vector<float> scores;
                  for (const auto& text : texts)
                    scores.push_back(std::sin(float(text.size() + text.back())));
                  return scores;
                },
                {});
    const auto zeros = at::zeros_like(rollout_.behaviour_logprobs);
    rollout_.old_logprobs = zeros.clone();
    rollout_.ref_logprobs = zeros.clone();
    rollout_.entropy = zeros.clone();
    rollout_.values = zeros.clone();
    at::Tensor none;
    for (const auto& pack : whole(0)) {
      score_policy(*actor_, pack, kTemperature, rollout_.old_logprobs, rollout_.entropy);
      score_policy(*reference_, pack, kTemperature, rollout_.ref_logprobs, none);
      score_values(*critic_, 0.0, pack, rollout_.values);
    }
    options_.placement = GetParam() ? "after_last" : "last";
    summary_ = estimate_advantages(rollout_, options_, 0.3);
    // Move the actor off its old self, so that some ratios are clipped.
    const at::NoGradGuard no_grad;
    auto& data = actor_->parameters().data();
    data.add_(at::sin(at::arange(data.numel(), data.options())), 0.01);
    actor_->parameters().enable_grad();
    critic_->parameters().enable_grad();
  }

  /// All texts as one minibatch.
  Minibatch whole(int64_t micro_tokens, uint64_t shuffle = 0,
                  const std::string& aggregation = "token_mean") const {
    return make_minibatches(
               rollout_, random_order(rollout_.size(), 9, shuffle),
               {.micro_tokens = micro_tokens, .aggregation = aggregation, .max_new_tokens = 8})
        .at(0);
  }

  std::unique_ptr<CausalLM> actor_, reference_, critic_;
  Rollout rollout_;
  PpoOptions options_;
  AdvantageSummary summary_;
};

TEST_P(PpoUpdateTest, SamplerAndRecomputedLogProbabilitiesAgree) {
  test::expect_close(rollout_.old_logprobs, rollout_.behaviour_logprobs, 2e-6);
  int64_t finals = 0;
  for (const auto one : rollout_.has_final) finals += one;
  EXPECT_EQ(finals > 0, GetParam());
}

TEST_P(PpoUpdateTest, AdvantagesEqualAPlainLoop) {
  // sfd's ppo.py in words: the score stands at the end (after it with a final state), KL penalty on
  // response tokens, V after the end is 0; whitening over response tokens only.
  std::vector<double> want_adv(size_t(rollout_.entries())), want_ret(want_adv.size()), taken;
  const auto at = [](const at::Tensor& t, int64_t i) { return t[i].item<double>(); };
  double kl = 0, reward_sum = 0;
  for (int64_t i = 0; i < rollout_.size(); ++i) {
    const int64_t begin = rollout_.offsets[size_t(i)], end = rollout_.offsets[size_t(i) + 1];
    double trace = 0, next_value = 0;
    for (int64_t e = end - 1; e >= begin; --e) {
      const bool final_state = rollout_.has_final[size_t(i)] && e == end - 1;
      double reward = e == end - 1 ? at(rollout_.scores, i) : 0.0;
      if (!final_state) {
        const double d = at(rollout_.old_logprobs, e) - at(rollout_.ref_logprobs, e);
        reward -= 0.3 * d;
        kl += d;
      }
      reward_sum += reward;
      const double value = at(rollout_.values, e);
      trace = reward + next_value - value + 0.95 * trace;
      next_value = value;
      want_ret[size_t(e)] = trace + value;
      want_adv[size_t(e)] = trace;
      if (!final_state) taken.push_back(trace);
    }
  }
  double mean = 0, square = 0;
  for (const double x : taken) mean += x / double(taken.size());
  for (const double x : taken) square += (x - mean) * (x - mean);
  const double std = std::sqrt(square / double(taken.size() - 1) + 1e-8);
  for (size_t e = 0; e < want_ret.size(); ++e) {
    EXPECT_NEAR(at(rollout_.returns, int64_t(e)), want_ret[e], 1e-10);
    if (rollout_.mask.defined() && rollout_.mask[int64_t(e)].item<int64_t>() == 0) continue;
    EXPECT_NEAR(at(rollout_.advantages, int64_t(e)), (want_adv[e] - mean) / std, 1e-9);
  }
  EXPECT_NEAR(summary_.kl, kl / double(rollout_.size()), 1e-10);
  EXPECT_NEAR(summary_.reward, reward_sum / double(rollout_.size()), 1e-10);
}

TEST_P(PpoUpdateTest, PolicyGradientEqualsAutogradOverFullLogits) {
  PolicyObjective objective;
  objective.temperature = kTemperature;
  const auto minibatch = whole(0);
  const auto update = accumulate_policy_gradients(*actor_, rollout_, minibatch, objective);
  const auto got = actor_->parameters().grad().clone();
  actor_->parameters().zero_grad();

  at::Tensor total = at::zeros({}, at::kDouble);
  int64_t tokens = 0, clipped = 0;
  for (int64_t i = 0; i < rollout_.size(); ++i) {
    const auto& text = rollout_.texts[size_t(i)];
    const auto input = pack({text.tokens});
    const auto logits = actor_->hidden(input.tokens, input.cu_seqlens).mm(actor_->lm_head().t());
    const auto logp = at::log_softmax(logits / kTemperature, 1);
    for (int64_t t = 0; t < rollout_.response_tokens(i); ++t, ++tokens) {
      const int64_t place = text.prompt_tokens + t, entry = rollout_.offsets[size_t(i)] + t;
      const auto ratio =
          at::exp(logp[place - 1][text.tokens[size_t(place)]] - rollout_.old_logprobs[entry]);
      const auto advantage = rollout_.advantages[entry];
      const auto plain = -advantage * ratio, clip = -advantage * at::clamp(ratio, 0.8, 1.2);
      clipped += at::gt(clip, plain).item<bool>();
      total = total + at::maximum(plain, clip);
    }
  }
  (total / double(tokens)).backward();
  EXPECT_NEAR(update.loss, total.item<double>() / double(tokens), 1e-12);
  EXPECT_NEAR(update.clip_fraction, double(clipped) / double(tokens), 1e-12);
  EXPECT_GT(clipped, 0);
  EXPECT_GT(got.abs().max().item<double>(), 1e-4);
  test::expect_close(got, actor_->parameters().grad(), 1e-11);
}

TEST_P(PpoUpdateTest, ValueGradientEqualsAutograd) {
  const double loss = accumulate_value_gradients(*critic_, 0.0, rollout_, whole(0), 0.0);
  const auto got = critic_->parameters().grad().clone();
  critic_->parameters().zero_grad();
  at::Tensor total = at::zeros({}, at::kDouble);
  for (int64_t i = 0; i < rollout_.size(); ++i) {
    const auto& text = rollout_.texts[size_t(i)];
    const auto input = pack({text.tokens});
    const auto values =
        critic_->hidden(input.tokens, input.cu_seqlens).mm(critic_->scalar_head().t()).select(1, 0);
    const int64_t begin = rollout_.offsets[size_t(i)], end = rollout_.offsets[size_t(i) + 1];
    const auto mine = values.slice(0, text.prompt_tokens - 1, text.prompt_tokens - 1 + end - begin);
    total = total + (mine - rollout_.returns.slice(0, begin, end)).square().sum() * 0.5;
  }
  (total / double(rollout_.entries())).backward();
  EXPECT_NEAR(loss, total.item<double>() / double(rollout_.entries()), 1e-12);
  test::expect_close(got, critic_->parameters().grad(), 1e-11);
}

TEST_P(PpoUpdateTest, TheOffsetIsPartOfEveryValue) {
  auto shifted = at::zeros_like(rollout_.values);
  for (const auto& pack : whole(0)) score_values(*critic_, -0.75, pack, shifted);
  test::expect_close(shifted, rollout_.values - 0.75, 1e-14);
  // Returns moved along with it, the loss is the same.
  const double loss = accumulate_value_gradients(*critic_, 0.0, rollout_, whole(0), 0.0);
  rollout_.returns = rollout_.returns - 0.75;
  EXPECT_NEAR(accumulate_value_gradients(*critic_, -0.75, rollout_, whole(0), 0.0), loss, 1e-12);
}

TEST_P(PpoUpdateTest, NothingDependsOnPackingOrderOrMicroBatches) {
  PolicyObjective objective;
  objective.temperature = kTemperature;
  objective.loss.kl_coef = 0.1;
  for (const std::string aggregation : {"token_mean", "seq_mean_token_mean", "constant"}) {
    at::Tensor want_actor, want_critic;
    PolicyUpdate want;
    double want_value = 0;
    for (const int64_t micro : {0, 1, 20, 50}) {
      for (const uint64_t shuffle : {0u, 1u}) {
        const auto packs = whole(micro, shuffle, aggregation);
        actor_->parameters().zero_grad();
        critic_->parameters().zero_grad();
        const auto got = accumulate_policy_gradients(*actor_, rollout_, packs, objective);
        const double value = accumulate_value_gradients(*critic_, 0.0, rollout_, packs, 0.2);
        if (!want_actor.defined()) {
          want = got;
          want_value = value;
          want_actor = actor_->parameters().grad().clone();
          want_critic = critic_->parameters().grad().clone();
        }
        EXPECT_NEAR(got.loss, want.loss, 1e-12);
        EXPECT_NEAR(got.approx_kl, want.approx_kl, 1e-12);
        EXPECT_NEAR(got.ratio_error, want.ratio_error, 1e-12);
        EXPECT_NEAR(got.entropy, want.entropy, 1e-12);
        EXPECT_NEAR(value, want_value, 1e-12);
        test::expect_close(actor_->parameters().grad(), want_actor, 1e-12);
        test::expect_close(critic_->parameters().grad(), want_critic, 1e-12);
      }
    }
  }
}

/// The first step goes on from scoring's forward passes: the same bits as with its own, and what
/// other networks score in these packs is theirs.
TEST_P(PpoUpdateTest, KeptForwardPassesAreTheFirstStepsOwn) {
  PolicyObjective objective;
  objective.temperature = kTemperature;
  auto packs = whole(20);
  ASSERT_GT(packs.size(), 2u);
  const double loss = accumulate_policy_gradients(*actor_, rollout_, packs, objective).loss;
  const double value = accumulate_value_gradients(*critic_, 0.0, rollout_, packs, 0.2);
  const auto actor_grad = actor_->parameters().grad().clone(),
             critic_grad = critic_->parameters().grad().clone();
  actor_->parameters().zero_grad();
  critic_->parameters().zero_grad();
  const auto zeros = at::zeros_like(rollout_.behaviour_logprobs);
  auto logprobs = zeros.clone(), reference = zeros.clone(), values = zeros.clone(),
       kept_values = zeros.clone();
  at::Tensor none;
  for (auto& pack : packs) {
    at::Tensor* const kept = &pack == &packs.back() ? nullptr : &pack.actor_hidden;
    score_policy(*actor_, pack, kTemperature, logprobs, none, kept);
    score_policy(*reference_, pack, kTemperature, reference, none);
    score_values(*critic_, 0.0, pack, kept_values, &pack.critic_hidden);
    score_values(*critic_, 0.0, pack, values);
    EXPECT_EQ(pack.actor_hidden.defined(), kept != nullptr);
  }
  EXPECT_TRUE(at::equal(reference, rollout_.ref_logprobs));
  EXPECT_TRUE(at::equal(kept_values, values));
  EXPECT_FALSE(logprobs.requires_grad() || kept_values.requires_grad());
  EXPECT_EQ(accumulate_policy_gradients(*actor_, rollout_, packs, objective).loss, loss);
  EXPECT_EQ(accumulate_value_gradients(*critic_, 0.0, rollout_, packs, 0.2), value);
  EXPECT_TRUE(at::equal(actor_->parameters().grad(), actor_grad));
  EXPECT_TRUE(at::equal(critic_->parameters().grad(), critic_grad));
}

INSTANTIATE_TEST_SUITE_P(FinalStates, PpoUpdateTest, ::testing::Bool());

}  // namespace
}  // namespace hone::engine
