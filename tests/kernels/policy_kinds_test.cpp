// Every kind of policy_loss, with behaviour policies and sequences, against plain double loops
// written from the papers' formulas; gradients against central differences of those loops.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "kernels/ops.h"
#include "tests/kernels/expect_message.h"
#include "tests/support/expect_close.h"

namespace hone::kernels {
namespace {

using test::expect_close;
using test::expect_message;
using Numbers = std::vector<double>;

struct Case {
  Numbers now, old, advantage, ref, sampled, weight;
  std::vector<int64_t> cu;
  bool has_behaviour = false;
  PolicyLossOptions options;

  size_t size() const { return now.size(); }
  PolicyLoss run(const Tensor& logp_new) const {
    const auto as = [&](const Numbers& x) {
      return at::tensor(x, at::kDouble).to(logp_new.scalar_type());
    };
    return policy_loss(logp_new, as(old), as(advantage), as(ref), as(weight), options,
                       at::tensor(cu, at::kLong),
                       has_behaviour ? OptionalTensor(as(sampled)) : std::nullopt);
  }
};

const std::vector<std::string> kKinds = {"ppo",   "gspo", "gspo_token", "rloo",
                                         "cispo", "sapo", "reinforce"};

/// Ragged sequences, empty ones and masked tokens among them.
Case random_case(std::mt19937& rng, const std::string& kind, size_t most) {
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> uniform;
  Case c;
  c.cu = {0};
  while (c.cu.size() < 2 || rng() % 4) {
    c.cu.push_back(c.cu.back() + static_cast<int64_t>(rng() % (most / 4 + 1)));
  }
  for (int64_t i = 0; i < c.cu.back(); ++i) {
    c.now.push_back(-std::fabs(normal(rng)));
    c.old.push_back(c.now.back() + 0.2 * normal(rng));
    c.ref.push_back(c.now.back() + 0.5 * normal(rng));
    c.sampled.push_back(c.old.back() + 0.3 * normal(rng));
    c.advantage.push_back(normal(rng));
    c.weight.push_back(rng() % 5 ? uniform(rng) : 0.0);
  }
  auto& o = c.options;
  o.kind = kind;
  const double clips[] = {0, 0.05, 0.2, 0.28};
  o.clip_low = clips[rng() % 4];
  o.clip_high = clips[rng() % 4];
  const bool clip = kind != "cispo" && kind != "sapo" && kind != "reinforce";
  o.dual_clip = clip && rng() % 2 ? 1.3 : 0;
  o.kl_coef = rng() % 2 ? 0.3 : 0;
  o.kl_estimator = std::vector<std::string>{"k1", "k2", "k3"}[rng() % 3];
  o.tau_positive = 1 + 3 * uniform(rng);
  o.tau_negative = 1 + 3 * uniform(rng);
  c.has_behaviour = rng() % 2;
  o.behaviour = std::vector<std::string>{"token_truncate", "token_mask", "sequence_truncate",
                                         "sequence_mask"}[rng() % 4];
  o.behaviour_low = rng() % 2 ? 0 : 0.8;
  o.behaviour_high = 1.2;
  return c;
}

struct Judged {
  double loss = 0;
  Numbers metrics = Numbers(10);
};

/// The loss at `now`; what the formulas hold constant is taken at c.now.
Judged judge(const Case& c, const Numbers& now) {
  const auto& o = c.options;
  Judged out;
  for (size_t b = 0; b + 1 < c.cu.size(); ++b) {
    const size_t begin = static_cast<size_t>(c.cu[b]), end = static_cast<size_t>(c.cu[b + 1]);
    double sum = 0, held_sum = 0, behaviour_sum = 0;
    int tokens = 0;
    for (size_t i = begin; i < end; ++i) {
      if (c.weight[i] == 0) continue;
      ++tokens;
      sum += now[i] - c.old[i];
      held_sum += c.now[i] - c.old[i];
      behaviour_sum += c.old[i] - c.sampled[i];
    }
    for (size_t i = begin; i < end; ++i) {
      const double w = c.weight[i], a = c.advantage[i];
      if (w == 0) continue;
      double ratio = std::exp(now[i] - c.old[i]);
      if (o.kind == "gspo") ratio = std::exp(sum / tokens);
      if (o.kind == "rloo") ratio = std::exp(sum);
      if (o.kind == "gspo_token") ratio = std::exp(held_sum / tokens) * std::exp(now[i] - c.now[i]);
      const double clipped = std::min(std::max(ratio, 1 - o.clip_low), 1 + o.clip_high);
      double loss = 0;
      if (o.kind == "cispo") {
        const double constant = std::exp(c.now[i] - c.old[i]);
        const double cut = std::min(std::max(constant, 1 - o.clip_low), 1 + o.clip_high);
        loss = -cut * a * now[i];
        out.metrics[0] += cut != constant ? w : 0;
      } else if (o.kind == "sapo") {
        const double tau = a > 0 ? o.tau_positive : o.tau_negative;
        loss = -a * 4 / tau / (1 + std::exp(-tau * (ratio - 1)));
      } else if (o.kind == "reinforce") {
        loss = -a * now[i];
      } else {
        loss = -std::min(a * ratio, a * clipped);
        out.metrics[0] += a * clipped < a * ratio ? w : 0;
        if (o.dual_clip > 0 && a < 0 && loss > -o.dual_clip * a) {
          loss = -o.dual_clip * a;
          out.metrics[7] += w;
        }
      }
      double behaviour = 1;
      if (c.has_behaviour) {
        const bool whole = o.behaviour.rfind("sequence", 0) == 0;
        const bool masks = o.behaviour.find("mask") != std::string::npos;
        behaviour = std::exp(whole ? behaviour_sum : c.old[i] - c.sampled[i]);
        if (behaviour < o.behaviour_low || behaviour > o.behaviour_high) {
          out.metrics[9] += w;
          behaviour = masks ? 0 : behaviour < o.behaviour_low ? o.behaviour_low : o.behaviour_high;
        }
      }
      const double x = now[i] - c.old[i], d = now[i] - c.ref[i];
      const double kl = o.kl_estimator == "k1"   ? d
                        : o.kl_estimator == "k2" ? d * d / 2
                                                 : std::exp(-d) - 1 + d;
      out.loss += w * (behaviour * loss + o.kl_coef * kl);
      out.metrics[1] += w * x * x / 2;
      out.metrics[2] -= w * x;
      out.metrics[3] += w * ratio;
      out.metrics[4] = std::max(out.metrics[4], std::fabs(ratio - 1));
      out.metrics[5] -= w * now[i];
      out.metrics[6] += o.kl_coef == 0 ? 0 : w * kl;
      out.metrics[8] += w * behaviour;
    }
  }
  return out;
}

TEST(PolicyKinds, MatchTheFormulasOnTenThousandRandomBatches) {
  std::mt19937 rng(11);
  for (int i = 0; i < 10000; ++i) {
    const Case c = random_case(rng, kKinds[static_cast<size_t>(i) % kKinds.size()], 40);
    const Judged want = judge(c, c.now);
    const PolicyLoss got = c.run(at::tensor(c.now, at::kDouble));
    const double loss = got.loss.item<double>();
    ASSERT_NEAR(loss, want.loss, 1e-9 * (1 + std::fabs(want.loss))) << c.options.kind << " " << i;
    const double* metrics = got.metrics.const_data_ptr<double>();
    for (size_t m = 0; m < 10; ++m) {
      ASSERT_NEAR(metrics[m], want.metrics[m], 1e-9 * (1 + std::fabs(want.metrics[m])))
          << c.options.kind << " metric " << m << " case " << i;
    }
    if (i % 8) continue;
    const double single = c.run(at::tensor(c.now, at::kDouble).to(at::kFloat)).loss.item<double>();
    // Masked behaviour weights and kinks of the derivative do not jump the loss by rounding.
    if (!c.has_behaviour || c.options.behaviour.find("mask") == std::string::npos) {
      ASSERT_NEAR(single, want.loss, 1e-5 * (4 + std::fabs(want.loss))) << c.options.kind;
    }
  }
}

TEST(PolicyKinds, GradientsMatchFiniteDifferences) {
  std::mt19937 rng(12);
  for (int i = 0; i < 350; ++i) {
    const Case c = random_case(rng, kKinds[static_cast<size_t>(i) % kKinds.size()], 16);
    const Tensor now = at::tensor(c.now, at::kDouble).requires_grad_(true);
    c.run(now).loss.backward();
    const Tensor gradient = now.grad();
    for (size_t j = 0; j < c.size(); ++j) {
      constexpr double kStep = 1e-5;
      Numbers up = c.now, down = c.now;
      up[j] += kStep;
      down[j] -= kStep;
      const double want = (judge(c, up).loss - judge(c, down).loss) / (2 * kStep);
      ASSERT_NEAR(gradient[static_cast<int64_t>(j)].item<double>(), want,
                  1e-6 * (1 + std::fabs(want)))
          << c.options.kind << " case " << i << " token " << j;
    }
  }
}

TEST(PolicyKinds, SequencesMayBePackedInAnyOrderAndSplit) {
  std::mt19937 rng(13);
  for (const auto& kind : kKinds) {
    const Case c = random_case(rng, kind, 200);
    const Tensor whole_now = at::tensor(c.now, at::kDouble).requires_grad_(true);
    const PolicyLoss whole = c.run(whole_now);
    whole.loss.backward();
    // One sequence a call, last first.
    double loss = 0;
    Tensor metrics = at::zeros({10}, at::kDouble);
    for (size_t b = c.cu.size() - 1; b-- > 0;) {
      const auto cut = [&](const Numbers& x) {
        return Numbers(x.begin() + c.cu[b], x.begin() + c.cu[b + 1]);
      };
      const Case part{cut(c.now),     cut(c.old),    cut(c.advantage),           cut(c.ref),
                      cut(c.sampled), cut(c.weight), {0, c.cu[b + 1] - c.cu[b]}, c.has_behaviour,
                      c.options};
      const Tensor now = at::tensor(part.now, at::kDouble).requires_grad_(true);
      const PolicyLoss got = part.run(now);
      got.loss.backward();
      loss += got.loss.item<double>();
      metrics += got.metrics;
      EXPECT_TRUE(at::equal(now.grad(), whole_now.grad().slice(0, c.cu[b], c.cu[b + 1]))) << kind;
    }
    EXPECT_NEAR(loss, whole.loss.item<double>(), 1e-12) << kind;
    metrics[4] = whole.metrics[4];  // a maximum
    expect_close(metrics, whole.metrics, 1e-12, 1e-12, kind);
  }
}

TEST(PolicyKinds, AFreshPolicyHasThePolicyGradientUnderEveryKind) {
  std::mt19937 rng(14);
  for (const auto& kind : kKinds) {
    Case c = random_case(rng, kind, 40);
    c.old = c.now;
    c.has_behaviour = false;
    c.options.kl_coef = 0;
    c.options.dual_clip = 0;
    c.options.tau_positive = c.options.tau_negative = 1;
    if (kind == "gspo" || kind == "rloo") {
      // A sequence's tokens share one gradient: equal advantages and weights make it theirs.
      c.weight.assign(c.size(), 0.25);
      c.advantage.assign(c.size(), kind == "gspo" ? 2.0 : 0.0);
    }
    const Tensor now = at::tensor(c.now, at::kDouble).requires_grad_(true);
    c.run(now).loss.backward();
    for (size_t i = 0; i < c.size(); ++i) {
      EXPECT_NEAR(now.grad()[static_cast<int64_t>(i)].item<double>(), -c.advantage[i] * c.weight[i],
                  1e-12)
          << kind;
    }
  }
}

TEST(PolicyKinds, OtherLayoutsThanContiguousAreTaken) {
  const Tensor wide = -at::rand({6, 20}, at::kDouble);
  const auto column = [&](int64_t i) { return wide.t().select(1, i); };
  const Tensor cu = at::tensor({0, 0, 9, 0, 20, 0}, at::kLong).view({3, 2}).select(1, 0);
  PolicyLossOptions o;
  o.kind = "gspo";
  const auto run = [&](bool copy) {
    const auto x = [&](int64_t i) { return copy ? column(i).contiguous() : column(i); };
    return policy_loss(x(0), x(1), x(2), std::nullopt, x(3), o, copy ? cu.contiguous() : cu, x(4));
  };
  EXPECT_TRUE(at::equal(run(true).loss, run(false).loss));
  EXPECT_TRUE(at::equal(run(true).metrics, run(false).metrics));
}

TEST(PolicyKinds, ErrorsNameArgumentExpectedAndGot) {
  const Tensor x = at::zeros({3}), cu = at::tensor({0, 3}, at::kLong);
  const auto with = [&](const auto& change, const OptionalTensor& sequences = std::nullopt,
                        const OptionalTensor& behaviour = std::nullopt) {
    PolicyLossOptions o;
    change(o);
    return [=] { policy_loss(x, x, x, std::nullopt, x, o, sequences, behaviour); };
  };
  const auto nothing = [](auto&) {};
  expect_message(with([](auto& o) { o.kind = "grpo"; }),
                 "policy_loss: kind: expected \"ppo\", \"gspo\", \"gspo_token\", \"rloo\", "
                 "\"cispo\", \"sapo\" or \"reinforce\", got \"grpo\"");
  expect_message(with([](auto& o) { o.kind = "gspo"; }),
                 "policy_loss: cu_seqlens: expected the sequences that kind \"gspo\" needs, got "
                 "none");
  expect_message(with([](auto& o) { o.behaviour = "sequence_mask"; }, std::nullopt, x),
                 "policy_loss: cu_seqlens: expected the sequences that behaviour "
                 "\"sequence_mask\" needs, got none");
  expect_message(with([](auto& o) { o.behaviour = "mask"; }), "policy_loss: behaviour: expected ");
  expect_message(with([](auto& o) { o.behaviour_high = -1; }),
                 "policy_loss: behaviour_high: expected a number >= behaviour_low = 0, got -1");
  expect_message(with([](auto& o) { o.behaviour_low = -1; }), "policy_loss: behaviour_low: ");
  expect_message(with([](auto& o) { o.kind = "cispo", o.dual_clip = 2; }),
                 "policy_loss: dual_clip: expected 0 with kind \"cispo\", got 2");
  expect_message(with([](auto& o) { o.tau_negative = 0; }),
                 "policy_loss: tau_negative: expected a finite number > 0, got 0");
  expect_message(with([](auto& o) { o.tau_positive = std::nan(""); }),
                 "policy_loss: tau_positive: ");
  expect_message(with(nothing, std::nullopt, at::zeros({4})),
                 "policy_loss: logp_behaviour: expected Float [3] on cpu as logp_new, got Float "
                 "[4] on cpu");
  expect_message(with(nothing, at::tensor({0, 2}, at::kLong)),
                 "policy_loss: cu_seqlens: expected to end at the number of tokens 3, got 2");
  expect_message(with(nothing, at::tensor({1, 3}, at::kLong)),
                 "policy_loss: cu_seqlens[0]: expected 0, got 1");
  expect_message(with(nothing, at::tensor({0, 3, 2, 3}, at::kLong)),
                 "policy_loss: cu_seqlens: expected values that never fall, got 3 then 2 at 2");
  expect_message(with(nothing, cu.to(at::kInt)), "policy_loss: cu_seqlens: expected int64 [B+1]");
}

Tensor weights_of(const std::vector<int64_t>& mask, const std::vector<int64_t>& cu,
                  const AggregationOptions& o) {
  return token_weights(at::tensor(mask, at::kLong).to(at::kBool), at::tensor(cu, at::kLong), o,
                       at::kDouble);
}

TEST(TokenWeights, MatchTheAggregationsOnTenThousandRandomBatches) {
  std::mt19937 rng(15);
  const char* const kAggregations[] = {"token_mean", "seq_mean_token_mean", "seq_mean_token_sum",
                                       "constant"};
  for (int i = 0; i < 10000; ++i) {
    std::vector<int64_t> cu = {0}, mask;
    for (size_t b = rng() % 5; b-- > 0;) cu.push_back(cu.back() + static_cast<int64_t>(rng() % 7));
    for (int64_t t = 0; t < cu.back(); ++t) mask.push_back(rng() % 3 != 0);
    AggregationOptions o;
    o.aggregation = kAggregations[i % 4];
    o.length = 9;
    if (rng() % 2) o.tokens = 50.0;
    if (rng() % 2) o.sequences = 7.0;
    double tokens = 0, sequences = 0;
    std::vector<double> own;
    for (size_t b = 0; b + 1 < cu.size(); ++b) {
      double n = 0;
      for (int64_t t = cu[b]; t < cu[b + 1]; ++t) n += static_cast<double>(mask[size_t(t)]);
      own.push_back(n);
      tokens += n;
      sequences += n > 0;
    }
    tokens = o.tokens.value_or(tokens);
    sequences = o.sequences.value_or(sequences);
    const Tensor got = weights_of(mask, cu, o);
    ASSERT_EQ(got.numel(), cu.back());
    for (size_t b = 0; b + 1 < cu.size(); ++b) {
      for (int64_t t = cu[b]; t < cu[b + 1]; ++t) {
        double want = 0;
        if (mask[size_t(t)]) {
          want = o.aggregation == "token_mean"            ? 1 / tokens
                 : o.aggregation == "seq_mean_token_mean" ? 1 / (sequences * own[b])
                 : o.aggregation == "seq_mean_token_sum"  ? 1 / sequences
                                                          : 1 / (sequences * 9);
        }
        ASSERT_NEAR(got[t].item<double>(), want, 1e-15) << o.aggregation << " " << i;
      }
    }
  }
}

TEST(TokenWeights, ErrorsNameArgumentExpectedAndGot) {
  const Tensor mask = at::ones({3}, at::kBool), cu = at::tensor({0, 3}, at::kLong);
  const auto with = [&](const auto& change) {
    AggregationOptions o;
    change(o);
    return [=] { token_weights(mask, cu, o); };
  };
  expect_message(with([](auto& o) { o.aggregation = "mean"; }),
                 "token_weights: aggregation: expected \"token_mean\", \"seq_mean_token_mean\", "
                 "\"seq_mean_token_sum\" or \"constant\", got \"mean\"");
  expect_message(with([](auto& o) { o.aggregation = "constant"; }),
                 "token_weights: length: expected the number of tokens > 0 that aggregation "
                 "\"constant\" divides by, got 0");
  expect_message(with([](auto& o) { o.tokens = 0.0; }),
                 "token_weights: tokens: expected a finite number > 0, got 0");
  expect_message(with([](auto& o) { o.sequences = -1.0; }), "token_weights: sequences: ");
  expect_message([&] { token_weights(mask, cu, {}, at::kHalf); },
                 "token_weights: dtype: expected float32 or float64, got Half");
  expect_message([&] { token_weights(mask.to(at::kFloat), cu, {}); },
                 "token_weights: mask: expected uint8 or bool [N] with N = 3, got Float [3]");
  expect_message(
      [&] {
        token_weights(mask.view({3, 1}), cu, {});
      },
      "token_weights: mask: expected 1 dimension, got Bool [3, 1] on cpu");
}

}  // namespace
}  // namespace hone::kernels
