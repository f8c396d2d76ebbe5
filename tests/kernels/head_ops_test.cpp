// token_logprobs, head_nll and head_policy_loss against the plain formulas over whole logits, and
// the bit-equality that makes the ratio of a first minibatch exactly 1.

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>

#include "kernels/composite/chunked_head.h"
#include "kernels/ops.h"
#include "tests/kernels/expect_message.h"
#include "tests/kernels/finite_difference.h"
#include "tests/kernels/same_bits.h"

namespace hone::kernels {
namespace {

using test::expect_close;
using test::expect_gradient;
using test::expect_message;

struct Head {
  Tensor hidden, weight, targets, token_weights;
  double temperature = 1.0;

  Head as(at::ScalarType type) const {
    return {hidden.to(type), weight.to(type), targets, token_weights.to(type), temperature};
  }
  Head requiring_grad() const {
    Head copy = *this;
    copy.hidden = hidden.detach().clone().requires_grad_(true);
    copy.weight = weight.detach().clone().requires_grad_(true);
    return copy;
  }
};

Head random_head(int64_t tokens, int64_t width, int64_t vocabulary, double temperature = 1.0) {
  Head h;
  h.hidden = at::randn({tokens, width}, at::kDouble);
  h.weight = at::randn({vocabulary, width}, at::kDouble) / std::sqrt(width) * 2;
  h.targets = at::randint(vocabulary, {tokens}, at::kLong);
  h.token_weights = at::rand({tokens}, at::kDouble) / std::max<int64_t>(tokens, 1);
  h.temperature = temperature;
  return h;
}

TokenLogprobs logprobs_of(const Head& h) {
  return token_logprobs(h.hidden, h.weight, h.targets, h.temperature);
}
HeadLoss nll_of(const Head& h) {
  return head_nll(h.hidden, h.weight, h.targets, h.token_weights, h.temperature);
}

/// Log-probability and entropy from whole logits in double.
TokenLogprobs reference(const Head& h) {
  const Tensor all = at::log_softmax(
      at::matmul(h.hidden.to(at::kDouble), h.weight.to(at::kDouble).t()) / h.temperature, -1);
  return {all.gather(1, h.targets.unsqueeze(1)).squeeze(1), -(all.exp() * all).sum(-1)};
}

/// Sizes about the edges of vectors (16, 8), chunks (16 rows, 2^20 logits), blocks (32 vectors)
/// and, from 8193 ids on, tiles of the vocabulary.
struct Size {
  int64_t tokens, width, vocabulary;
};
const Size kSizes[] = {{0, 4, 9},    {1, 3, 1},      {1, 8, 2},       {17, 5, 31},
                       {64, 16, 33}, {300, 12, 515}, {1100, 6, 2048}, {150, 4, 9001}};

TEST(HeadOps, MatchWholeLogitsInDoubleAndFloat) {
  at::manual_seed(1);
  for (const Size& s : kSizes) {
    for (double temperature : {1.0, 0.7}) {
      const Head h = random_head(s.tokens, s.width, s.vocabulary, temperature);
      const TokenLogprobs want = reference(h);
      const TokenLogprobs got = logprobs_of(h), single = logprobs_of(h.as(at::kFloat));
      const std::string what = std::to_string(s.tokens) + "x" + std::to_string(s.vocabulary);
      expect_close(got.logprobs, want.logprobs, 1e-12, 1e-12, what);
      expect_close(got.entropy, want.entropy, 1e-12, 1e-12, what + " entropy");
      EXPECT_EQ(single.logprobs.scalar_type(), at::kFloat);
      expect_close(single.logprobs, want.logprobs, 4e-6, 2e-6, what + " float32");
      expect_close(single.entropy, want.entropy, 4e-6, 2e-6, what + " float32 entropy");
      const HeadLoss loss = nll_of(h);
      EXPECT_NEAR(loss.loss.item<double>(), -(h.token_weights * want.logprobs).sum().item<double>(),
                  1e-11);
    }
  }
}

TEST(HeadOps, FloatRowsOfALargeVocabularyAreExactToOneInAMillion) {
  at::manual_seed(2);
  Head h = random_head(3, 8, 150000);
  const Head single = h.as(at::kFloat);
  // The reference starts from the same rounded inputs, so that only the op's own error counts.
  const TokenLogprobs want = reference(single.as(at::kDouble));
  const TokenLogprobs got = logprobs_of(single);
  expect_close(got.logprobs, want.logprobs, 0, 1e-6, "log-probability");
  expect_close(got.entropy, want.entropy, 0, 1e-6, "entropy");
}

TEST(HeadOps, GradientsEqualAutogradOfWholeLogits) {
  at::manual_seed(3);
  for (const Size& s : kSizes) {
    const Head h = random_head(s.tokens, s.width, s.vocabulary, 0.8).requiring_grad();
    const Tensor upstream = at::randn({s.tokens}, at::kDouble);
    (logprobs_of(h).logprobs * upstream).sum().backward();
    const Head same = h.requiring_grad();
    (reference(same).logprobs * upstream).sum().backward();
    expect_close(h.hidden.grad(), same.hidden.grad(), 1e-12, 1e-11, "hidden");
    expect_close(h.weight.grad(), same.weight.grad(), 1e-12, 1e-11, "weight");

    const Head folded = h.requiring_grad(), plain = h.requiring_grad();
    (nll_of(folded).loss * 3.0).backward();
    (reference(plain).logprobs * plain.token_weights).sum().mul(-3.0).backward();
    expect_close(folded.hidden.grad(), plain.hidden.grad(), 1e-12, 1e-11, "nll hidden");
    expect_close(folded.weight.grad(), plain.weight.grad(), 1e-12, 1e-11, "nll weight");

    const Head single = h.as(at::kFloat).requiring_grad();
    nll_of(single).loss.backward();
    expect_close(single.hidden.grad() * 3, plain.hidden.grad(), 2e-6, 1e-4, "float32 hidden");
    expect_close(single.weight.grad() * 3, plain.weight.grad(), 2e-6, 1e-4, "float32 weight");
  }
}

/// More tokens than a chunk of 512, more ids than a tile: what tiles and chunks add up to.
TEST(HeadOps, ChunksOfTilesAddUp) {
  at::manual_seed(12);
  const Head h = random_head(600, 3, 8500, 0.8), plain = h.requiring_grad();
  const Head single = h.as(at::kFloat), again = single.requiring_grad(),
             folded = single.requiring_grad();
  const TokenLogprobs want = reference(plain), got = logprobs_of(again);
  expect_close(got.logprobs.detach(), want.logprobs.detach(), 4e-6, 2e-6, "logprobs");
  expect_close(got.entropy.detach(), want.entropy.detach(), 4e-6, 2e-6, "entropy");
  (want.logprobs * h.token_weights).sum().backward();
  (got.logprobs * single.token_weights).sum().backward();
  nll_of(folded).loss.neg().backward();
  for (const Head* made : {&again, &folded}) {
    expect_close(made->hidden.grad(), plain.hidden.grad(), 2e-6, 1e-4, "hidden");
    expect_close(made->weight.grad(), plain.weight.grad(), 2e-6, 1e-4, "weight");
  }
}

TEST(HeadOps, GradientsEqualFiniteDifferences) {
  at::manual_seed(4);
  const Head h = random_head(5, 3, 7, 1.3);
  const Tensor upstream = at::randn({5}, at::kDouble);
  const auto with = [&](const Tensor& x, bool weight) {
    Head copy = h;
    (weight ? copy.weight : copy.hidden) = x.view((weight ? h.weight : h.hidden).sizes());
    return copy;
  };
  for (const bool weight : {false, true}) {
    const Tensor x = (weight ? h.weight : h.hidden).flatten();
    expect_gradient(
        [&](const Tensor& v) { return (logprobs_of(with(v, weight)).logprobs * upstream).sum(); },
        x, "token_logprobs");
    expect_gradient([&](const Tensor& v) { return nll_of(with(v, weight)).loss; }, x, "head_nll");
  }
}

struct Policy {
  Tensor old, advantages, ref;
  PolicyLossOptions options;

  Policy as(at::ScalarType type) const {
    return {old.to(type), advantages.to(type), ref.to(type), options};
  }
};

HeadPolicyLoss policy_of(const Head& h, const Policy& p) {
  return head_policy_loss(h.hidden, h.weight, h.targets, p.old, p.advantages, p.ref,
                          h.token_weights, h.temperature, p.options);
}

Policy random_policy(const Head& h) {
  Policy p;
  p.old = reference(h).logprobs.detach() + 0.3 * at::randn({h.targets.size(0)}, at::kDouble);
  p.ref = reference(h).logprobs.detach() + 0.5 * at::randn({h.targets.size(0)}, at::kDouble);
  p.advantages = at::randn({h.targets.size(0)}, at::kDouble);
  p.options.kl_coef = 0.2;
  p.options.dual_clip = 3.0;
  return p;
}

TEST(HeadOps, PolicyLossEqualsItsTwoHalves) {
  at::manual_seed(5);
  for (const Size& s : kSizes) {
    const Head folded = random_head(s.tokens, s.width, s.vocabulary, 0.7).requiring_grad();
    const Head halves = folded.requiring_grad();
    const Policy p = random_policy(folded);
    const HeadPolicyLoss got = policy_of(folded, p);
    const TokenLogprobs logprobs = logprobs_of(halves);
    const PolicyLoss want =
        policy_loss(logprobs.logprobs, p.old, p.advantages, p.ref, halves.token_weights, p.options);
    (got.loss * 2.0).backward();
    (want.loss * 2.0).backward();
    EXPECT_NEAR(got.loss.item<double>(), want.loss.item<double>(), 1e-12);
    Tensor metrics = want.metrics.clone();
    metrics[5] = (halves.token_weights * logprobs.entropy).sum().detach();  // exact, not sampled
    expect_close(got.metrics, metrics, 1e-12, 1e-12, "metrics");
    expect_close(got.entropy, logprobs.entropy, 0, 0, "entropy");
    expect_close(folded.hidden.grad(), halves.hidden.grad(), 1e-12, 1e-11, "hidden");
    expect_close(folded.weight.grad(), halves.weight.grad(), 1e-12, 1e-11, "weight");
    EXPECT_FALSE(got.logprobs.requires_grad() || got.entropy.requires_grad());
  }
}

TEST(HeadOps, PolicyLossGradientEqualsFiniteDifferences) {
  at::manual_seed(6);
  const Head h = random_head(6, 3, 8, 0.9);
  const Policy p = random_policy(h);
  expect_gradient(
      [&](const Tensor& v) {
        Head copy = h;
        copy.weight = v.view(h.weight.sizes());
        return policy_of(copy, p).loss;
      },
      h.weight.flatten(), "weight");
}

TEST(HeadOps, LogprobsAreTheSameBitsSoAFreshRatioIsExactlyOne) {
  at::manual_seed(7);
  for (const auto type : {at::kFloat, at::kDouble}) {
    for (const Size& s : kSizes) {
      const Head h = random_head(s.tokens, s.width, s.vocabulary, 0.7).as(type).requiring_grad();
      Tensor old, entropy;
      {
        at::NoGradGuard no_grad;
        const TokenLogprobs first = logprobs_of(h);
        old = first.logprobs;
        entropy = first.entropy;
      }
      Policy p = random_policy(h).as(type);
      p.old = old;
      const HeadPolicyLoss got = policy_of(h, p);
      EXPECT_TRUE(at::equal(got.logprobs, old));
      EXPECT_TRUE(at::equal(got.entropy, entropy));
      EXPECT_TRUE(at::equal(nll_of(h).logprobs, old));
      EXPECT_TRUE(at::equal(logprobs_of(h).logprobs.detach(), old));
      EXPECT_EQ(got.metrics[1].item<double>(), 0.0) << "approximate KL";
      EXPECT_EQ(got.metrics[4].item<double>(), 0.0) << "largest |ratio - 1|";
    }
  }
}

TEST(HeadOps, TokensOfWeightZeroCarryNothingEvenIfImpossible) {
  at::manual_seed(8);
  Head h = random_head(20, 4, 12);
  h.token_weights[3] = 0;
  h.hidden[3] *= 1e4;  // its log-probability and ratio overflow whatever they are compared with
  h = h.requiring_grad();
  Policy p = random_policy(h);
  p.old[3] = -1e6;
  nll_of(h).loss.backward();
  EXPECT_TRUE(at::isfinite(h.weight.grad()).all().item<bool>());
  EXPECT_EQ(h.hidden.grad()[3].abs().sum().item<double>(), 0.0);
  const Head again = h.requiring_grad();
  const HeadPolicyLoss got = policy_of(again, p);
  got.loss.backward();
  EXPECT_TRUE(std::isfinite(got.loss.item<double>()));
  EXPECT_TRUE(at::isfinite(again.weight.grad()).all().item<bool>());
  EXPECT_EQ(again.hidden.grad()[3].abs().sum().item<double>(), 0.0);
}

TEST(HeadOps, OnlyTheAskedGradientIsMade) {
  at::manual_seed(9);
  Head h = random_head(10, 4, 6);
  h.weight.requires_grad_(true);
  nll_of(h).loss.backward();
  EXPECT_TRUE(h.weight.grad().defined());
  EXPECT_FALSE(h.hidden.grad().defined());
  h.weight.requires_grad_(false);
  EXPECT_FALSE(nll_of(h).loss.requires_grad());
}

TEST(HeadOps, SameBitsOnAnyThreads) {
  at::manual_seed(10);
  for (const int64_t vocabulary : {2100, 9500}) {
    const Head h = random_head(700, 24, vocabulary, 0.7).as(at::kFloat);
    const Policy p = random_policy(h).as(at::kFloat);
    const auto compute = [&] {
      const Head one = h.requiring_grad(), two = h.requiring_grad();
      const auto logprobs = logprobs_of(one);
      logprobs.logprobs.sum().backward();
      const auto loss = policy_of(two, p);
      loss.loss.backward();
      return std::vector<Tensor>{
          logprobs.logprobs.detach(), logprobs.entropy,  loss.loss.detach(), loss.metrics,
          one.hidden.grad(),          one.weight.grad(), two.hidden.grad(),  two.weight.grad()};
    };
    test::expect_same_bits_on_any_threads(compute, "head ops");
  }
}

TEST(HeadOps, ChunksCoverAllTokensAndKnowNothingButSizes) {
  for (const int64_t vocabulary : {1, 100, 2048, 32000, 150000}) {
    for (const int64_t tokens : {1, 127, 128, 129, 6000}) {
      const int64_t rows = head_chunk_rows(tokens, vocabulary);
      EXPECT_GE(rows, 1);
      // 64 MB of float32 logits, or the 128 rows (144 when balanced) below which GEMMs get thin.
      EXPECT_LE(rows, std::max<int64_t>(144, (int64_t{1} << 24) / vocabulary));
    }
  }
}

TEST(HeadOps, ErrorsNameArgumentExpectedAndGot) {
  const Head h = random_head(4, 3, 5);
  const Tensor bad_targets = at::full({4}, 5, at::kLong);
  expect_message([&] { token_logprobs(h.hidden, h.weight, bad_targets, 1.0); },
                 "token_logprobs: targets: expected ids in [0, 5), got 5 at index 0");
  expect_message([&] { token_logprobs(h.hidden, h.weight, -bad_targets, 1.0); },
                 "token_logprobs: targets: expected ids in [0, 5), got -5 at index 0");
  expect_message([&] { token_logprobs(h.hidden, h.weight, h.targets, 0.0); },
                 "token_logprobs: temperature: expected a finite number above 0, got 0");
  expect_message([&] { token_logprobs(h.hidden, h.weight.to(at::kFloat), h.targets, 1.0); },
                 "token_logprobs: weight: expected Double, got Float");
  expect_message([&] { token_logprobs(h.hidden, h.weight.t(), h.targets, 1.0); },
                 "token_logprobs: weight: expected [V,H] with H = 3, got Double [3, 5]");
  expect_message([&] { head_nll(h.hidden, h.weight, h.targets, h.token_weights[0], 1.0); },
                 "head_nll: token_weights: expected [N] = [4], got Double []");
  const Policy p = random_policy(h);
  expect_message(
      [&] {
        head_policy_loss(h.hidden, h.weight, h.targets, p.old, p.advantages, std::nullopt,
                         h.token_weights, 1.0, p.options);
      },
      "head_policy_loss: logp_ref: expected");
}

}  // namespace
}  // namespace hone::kernels
