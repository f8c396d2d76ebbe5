// The reference vectors that concern the RL ops: 1e-9 in double, 1e-5 in float32.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "kernels/ops.h"
#include "tests/support/expect_close.h"

namespace hone::kernels {
namespace {

using test::expect_close;

class GoldenTest : public ::testing::TestWithParam<at::ScalarType> {
 protected:
  void SetUp() override {
    const char* root = std::getenv("HONE_SOURCE_DIR");
    std::ifstream file(std::string(root ? root : ".") + "/../shared/golden/golden_vectors.json");
    if (!file) GTEST_SKIP() << "shared/golden/golden_vectors.json is absent";
    golden_ = nlohmann::json::parse(file);
  }

  /// Any vector, flattened.
  Tensor flat(const std::string& name) const {
    const nlohmann::json& node = golden_.at(name);
    const nlohmann::json all = node.is_number() ? nlohmann::json::array({node}) : node;
    std::vector<double> values;
    for (const auto& item : all) {
      if (item.is_array()) {
        for (const auto& x : item) values.push_back(x.get<double>());
      } else {
        values.push_back(item.get<double>());
      }
    }
    return at::tensor(values, at::kDouble).to(GetParam());
  }
  double number(const std::string& name) const { return golden_.at(name).get<double>(); }
  Tensor mask() const { return flat("in/mask").to(at::kBool); }
  double tolerance() const { return GetParam() == at::kDouble ? 1e-9 : 1e-5; }
  void close(const Tensor& got, const Tensor& want, const std::string& what) const {
    expect_close(got, want, tolerance(), 0, what);
  }
  void close(const Tensor& got, double want, const std::string& what) const {
    EXPECT_NEAR(got.item<double>(), want, tolerance()) << what;
  }

  Advantages padded_rows(const AdvantageOptions& options, const Tensor& values,
                         const OptionalTensor& kept) const {
    return advantages(flat("in/logp_old"), flat("in/logp_ref"), values, flat("in/scores"),
                      at::arange(0, 25, 6, at::kLong), kept, options);
  }
  AdvantageOptions gae_options() const {
    AdvantageOptions options;
    options.kl_coef = number("gae/beta");
    options.gamma = number("gae/gamma");
    options.lambda = number("gae/lam");
    return options;
  }
  PolicyLoss policy(const Tensor& weights, double clip_high, double dual_clip = 0) const {
    PolicyLossOptions options;
    options.clip_high = clip_high;
    options.dual_clip = dual_clip;
    return policy_loss(flat("in/logp_new"), flat("in/logp_old"), flat("gae/adv_whiten_biased"),
                       std::nullopt, weights.to(GetParam()), options);
  }

  nlohmann::json golden_;
};

TEST_P(GoldenTest, GaeWithTheScoreAtTheEnd) {
  const auto got = padded_rows(gae_options(), flat("in/values"), mask());
  close(got.rewards, flat("gae/token_rewards_at_eos"), "rewards");
  close(got.advantages, flat("gae/adv_raw"), "advantages");
  close(got.returns, flat("gae/returns"), "returns");
  EXPECT_EQ(got.stats[2].item<double>(), 18);
  close(whiten(got.advantages, got.stats, false, true).masked_select(mask()),
        flat("gae/adv_whiten_biased").masked_select(mask()), "biased");
  close(whiten(got.advantages, got.stats, true, true).masked_select(mask()),
        flat("gae/adv_whiten_unbiased").masked_select(mask()), "unbiased");
  close(whiten(got.rewards, moments(got.rewards, mask()), false, false).masked_select(mask()),
        flat("whiten/rewards_noshift_biased").masked_select(mask()), "rewards, mean kept");
}

TEST_P(GoldenTest, GaeOfPackedRowsIsTheSame) {
  const auto pick = [&](const char* name) { return flat(name).masked_select(mask()); };
  const auto got =
      advantages(pick("in/logp_old"), pick("in/logp_ref"), pick("in/values"), flat("in/scores"),
                 at::tensor({0, 6, 10, 13, 18}, at::kLong), std::nullopt, gae_options());
  close(got.advantages, pick("gae/adv_raw"), "advantages");
  close(got.returns, pick("gae/returns"), "returns");
}

TEST_P(GoldenTest, GaeOfPaddedRowsIsTheSame) {
  const auto rows = [&](const char* name) { return flat(name).view({4, 6}); };
  const Tensor lengths = mask().view({4, 6}).sum(1);
  for (const bool by_length : {false, true}) {
    AdvantageExtras extras;
    if (by_length) extras.lengths = lengths;
    const auto got =
        advantages(rows("in/logp_old"), rows("in/logp_ref"), rows("in/values"), flat("in/scores"),
                   std::nullopt, by_length ? std::nullopt : OptionalTensor(mask().view({4, 6})),
                   gae_options(), extras);
    close(got.rewards.flatten(), flat("gae/token_rewards_at_eos"), "rewards");
    close(got.advantages.flatten(), flat("gae/adv_raw"), "advantages");
    close(got.returns.flatten(), flat("gae/returns"), "returns");
  }
}

TEST_P(GoldenTest, GaeWithTheScoreAfterTheEnd) {
  AdvantageOptions options = gae_options();
  options.placement = "after_last";
  const auto got = padded_rows(options, flat("in/values"), mask());
  close(got.rewards, flat("gae_p1/token_rewards"), "rewards");
  close(got.advantages, flat("gae_p1/adv_raw"), "advantages");
  close(got.returns, flat("gae_p1/returns"), "returns");
  close(whiten(got.advantages, got.stats, true, true).masked_select(mask()),
        flat("gae_p1/adv_whiten_unbiased").masked_select(mask()), "whitened");
}

TEST_P(GoldenTest, KlEstimators) {
  AdvantageOptions options;
  options.kl_coef = -1;  // so that the reward is the estimate itself
  for (const std::string name : {"k1", "k2", "k3"}) {
    options.kl_estimator = name;
    const auto got = advantages(flat("in/logp_old"), flat("in/logp_ref"), flat("in/values"),
                                at::zeros({1}, GetParam()), at::tensor({0, 24}, at::kLong),
                                std::nullopt, options);
    close(got.rewards, flat("kl/" + name), name);
    close(got.stats[3], flat("kl/" + name).to(at::kDouble).sum().item<double>(), name + " sum");
  }
}

TEST_P(GoldenTest, ReinforcePlusPlusIsGaeWithoutValues) {
  AdvantageOptions options = gae_options();
  options.estimator = "return";
  const auto got = advantages(flat("in/logp_old"), flat("in/logp_ref"), std::nullopt,
                              flat("in/scores"), at::arange(0, 25, 6, at::kLong), mask(), options);
  close(got.returns, flat("reinforcepp/returns"), "returns");
  close(whiten(got.advantages, got.stats, true, true).masked_select(mask()),
        flat("reinforcepp/adv_unbiased").masked_select(mask()), "whitened");
}

TEST_P(GoldenTest, GroupAdvantages) {
  const Tensor scores = flat("in/scores");
  close(group_advantages(scores, 2, {.kind = "grpo", .eps = 1e-6}),
        flat("grpo/adv_std_unbiased_eps1e-6"), "grpo");
  close(group_advantages(scores, 2, {.kind = "dr_grpo"}), flat("grpo/adv_nostd"), "dr_grpo");
  close(group_advantages(scores, 2, {.kind = "rloo"}), flat("rloo/adv"), "rloo");
}

TEST_P(GoldenTest, PolicyLossUnderEveryAggregation) {
  const Tensor m = flat("in/mask").to(at::kDouble);
  const Tensor lengths = m.view({4, 6}).sum(1, true);
  const Tensor per_row = (m.view({4, 6}) / lengths / 4).flatten();
  const auto token_mean = policy(m / 18, 0.2);
  close(token_mean.loss, number("pg/token-mean"), "token mean");
  // The vector divides by 18 + 1e-8.
  close(token_mean.metrics[0] * (18 / (18 + 1e-8)), number("pg/clipfrac"), "clip fraction");
  close(policy(per_row, 0.28).loss, number("pg/seq-mean-token-mean"), "sequence mean");
  close(policy(m / 4, 0.28).loss, number("pg/seq-mean-token-sum"), "sequence sum");
  close(policy(m / 24, 0.28).loss, number("pg/drgrpo"), "constant length");
  close(policy(m / 18, 0.2, 1.1).loss, number("pg/dual_clip_c1.1"), "dual clip");
}

TEST_P(GoldenTest, TokenWeightsAreTheAggregations) {
  const auto loss = [&](const char* aggregation, double clip_high) {
    AggregationOptions o;
    o.aggregation = aggregation;
    o.length = 6;
    return policy(token_weights(mask(), at::arange(0, 25, 6, at::kLong), o, GetParam()), clip_high)
        .loss;
  };
  close(loss("token_mean", 0.2), number("pg/token-mean"), "token mean");
  close(loss("seq_mean_token_mean", 0.28), number("pg/seq-mean-token-mean"), "sequence mean");
  close(loss("seq_mean_token_sum", 0.28), number("pg/seq-mean-token-sum"), "sequence sum");
  close(loss("constant", 0.28), number("pg/drgrpo"), "constant length");
}

TEST_P(GoldenTest, Gspo) {
  // One advantage a sequence, the mean of token means: the sequence's loss counts once.
  const Tensor cu = at::arange(0, 25, 6, at::kLong);
  const Tensor advantage = flat("grpo/adv_std_unbiased_eps1e-6").repeat_interleave(6);
  AggregationOptions aggregation;
  aggregation.aggregation = "seq_mean_token_mean";
  const Tensor weights = token_weights(mask(), cu, aggregation, GetParam());
  PolicyLossOptions options;
  options.kind = "gspo";
  options.clip_low = 3e-4;
  options.clip_high = 4e-4;
  const auto got = policy_loss(flat("in/logp_new"), flat("in/logp_old"), advantage, std::nullopt,
                               weights, options, cu);
  close(got.loss, number("gspo/loss_eps3e-4_4e-4_adv_grpo"), "gspo");
  close(got.metrics[3], flat("gspo/ratio").to(at::kDouble).mean().item<double>(), "ratio");
}

TEST_P(GoldenTest, ValueLoss) {
  const auto got = value_loss(flat("in/vpred"), flat("in/values"), flat("gae/returns"),
                              flat("in/mask") / 18, 0.2);
  close(got.loss, number("vf/loss_token_mean"), "value loss");
}

TEST_P(GoldenTest, RewardModelLosses) {
  const Tensor delta = flat("rm/chosen") - flat("rm/rejected");
  const Tensor one = at::ones({4}, GetParam());
  close(preference_loss(delta, one, one / 4, std::nullopt, {}), number("rm/bt"), "bt");
  close(preference_loss(delta, one, one / 4, flat("rm/margin"), {}), number("rm/bt_margin"),
        "margin");
  PreferenceLossOptions christiano;
  christiano.lapse = 0.05;
  close(preference_loss(delta, one, one / 4, std::nullopt, christiano),
        number("rm/christiano_10pct_uniform"), "lapse");
  // All pairs of a ranking of four, as InstructGPT.
  const Tensor scores = flat("rm/k_scores_best_to_worst");
  std::vector<Tensor> pairs;
  for (int64_t i = 0; i < 4; ++i) {
    for (int64_t j = i + 1; j < 4; ++j) pairs.push_back(scores[i] - scores[j]);
  }
  const Tensor six = at::ones({6}, GetParam());
  close(preference_loss(at::stack(pairs), six, six / 6, std::nullopt, {}),
        number("rm/instructgpt_K4"), "K-wise");
}

TEST_P(GoldenTest, DirectLossesThatArePreferenceLosses) {
  const Tensor h =
      (flat("dpo/in_pc") - flat("dpo/in_rc")) - (flat("dpo/in_pr") - flat("dpo/in_rr"));
  const Tensor one = at::ones({1}, GetParam());
  const auto each = [&](const Tensor& delta, double target, const OptionalTensor& margin) {
    std::vector<Tensor> losses;
    for (int64_t i = 0; i < delta.numel(); ++i) {
      losses.push_back(preference_loss(delta.slice(0, i, i + 1), one * target, one, margin, {}));
    }
    return at::stack(losses);
  };
  const Tensor delta = 0.1 * h;
  close(each(delta, 1.0, std::nullopt), flat("dpo/dpo"), "dpo");
  close(each(delta, 0.9, std::nullopt), flat("dpo/cdpo0.1"), "cdpo");
  // Robust DPO is a difference of two losses: weights 0.9 / 0.8 and -0.1 / 0.8.
  const Tensor robust =
      each(delta, 1.0, std::nullopt) * (0.9 / 0.8) - each(delta, 0.0, std::nullopt) * (0.1 / 0.8);
  close(robust, flat("dpo/robust0.1"), "robust");
  const Tensor means =
      2 * (flat("dpo/in_pc") / flat("dpo/lenc") - flat("dpo/in_pr") / flat("dpo/lenr"));
  close(each(means, 1.0, one * 0.5), flat("simpo/beta2_gamma0.5_absolute"), "simpo");
  close(each(flat("orpo/log_odds"), 1.0, std::nullopt), flat("orpo/or_loss_-logsig"), "orpo");
}

TEST_P(GoldenTest, DirectMethods) {
  const Tensor one = at::ones({1}, GetParam());
  const auto each = [&](DirectPairs pairs, const std::string& kind, double beta,
                        const auto& change) {
    DirectLossOptions o;
    o.kind = kind;
    o.beta = beta;
    change(o);
    std::vector<Tensor> losses;
    for (int64_t i = 0; i < pairs.logp_chosen.numel(); ++i) {
      DirectPairs p = pairs;
      p.logp_chosen = pairs.logp_chosen.slice(0, i, i + 1);
      p.logp_rejected = pairs.logp_rejected.slice(0, i, i + 1);
      for (auto field : {&DirectPairs::ref_chosen, &DirectPairs::ref_rejected,
                         &DirectPairs::length_chosen, &DirectPairs::length_rejected}) {
        if (pairs.*field) p.*field = (pairs.*field)->slice(0, i, i + 1);
      }
      losses.push_back(direct_loss(p, one, o).loss);
    }
    return at::stack(losses);
  };
  const auto nothing = [](auto&) {};
  const auto smooth = [](auto& o) { o.label_smoothing = 0.1; };
  DirectPairs pairs{flat("dpo/in_pc"), flat("dpo/in_pr"), flat("dpo/in_rc"),
                    flat("dpo/in_rr"), flat("dpo/lenc"),  flat("dpo/lenr")};
  close(each(pairs, "dpo", 0.1, nothing), flat("dpo/dpo"), "dpo");
  close(each(pairs, "dpo", 0.1, smooth), flat("dpo/cdpo0.1"), "cdpo");
  close(each(pairs, "robust_dpo", 0.1, smooth), flat("dpo/robust0.1"), "robust");
  // Hundreds in size: float32 carries seven digits.
  const double scale = GetParam() == at::kDouble ? 1 : 1e-2;
  close(each(pairs, "ipo", 0.1, nothing) * scale, flat("dpo/ipo") * scale, "ipo");
  close(each(pairs, "ipo_mean", 0.1, nothing) * scale, flat("dpo/ipo_len_normalised_TRL") * scale,
        "ipo of means");
  pairs.ref_chosen = pairs.ref_rejected = std::nullopt;
  close(each(pairs, "simpo", 2, [](auto& o) { o.margin = 0.5; }),
        flat("simpo/beta2_gamma0.5_absolute"), "simpo");
  close(each(pairs, "orpo", 1, [](auto& o) { o.nll_coef = 0.0; }), flat("orpo/or_loss_-logsig"),
        "orpo");
}

TEST_P(GoldenTest, Kto) {
  const Tensor logp = flat("dpo/in_pc"), ref = flat("dpo/in_rc"), one = at::ones({1}, GetParam());
  const Tensor worse = flat("dpo/in_pr"), worse_ref = flat("dpo/in_rr");
  const Tensor z0 = at::full({}, number("kto/z0"), GetParam());
  const auto each = [&](const Tensor& x, const Tensor& r, bool desirable) {
    std::vector<Tensor> losses;
    for (int64_t i = 0; i < x.numel(); ++i) {
      losses.push_back(kto_loss(x.slice(0, i, i + 1), r.slice(0, i, i + 1),
                                at::full({1}, desirable, at::kBool), one, z0, {})
                           .loss);
    }
    return at::stack(losses);
  };
  close(each(logp, ref, true), flat("kto/desirable"), "desirable");
  close(each(worse, worse_ref, false), flat("kto/undesirable"), "undesirable");
}

TEST_P(GoldenTest, Rankings) {
  const Tensor scores = flat("rm/k_scores_best_to_worst"), cu = at::tensor({0, 4}, at::kLong);
  const Tensor one = at::ones({1}, GetParam());
  close(ranking_loss(scores, cu, std::nullopt, one), number("rm/plackett_luce_nll_K4"), "PL");
  close(ranking_loss(scores, cu, std::nullopt, one, {"bradley_terry", 0, 0}),
        number("rm/instructgpt_K4"), "K-wise");
  close(ranking_loss(scores, cu, at::tensor({0, -1, -1, -1}, at::kLong), one),
        number("rm/pickbest_softmax_nll"), "pick best");
}

INSTANTIATE_TEST_SUITE_P(Types, GoldenTest, ::testing::Values(at::kDouble, at::kFloat),
                         [](const auto& info) { return c10::toString(info.param); });

}  // namespace
}  // namespace hone::kernels
