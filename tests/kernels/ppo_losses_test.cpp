// policy_loss and value_loss against plain double loops written from the formulas, finite
// differences, and the invariances that trainers rely on.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <limits>
#include <random>

#include "kernels/ops.h"
#include "tests/kernels/expect_message.h"
#include "tests/kernels/finite_difference.h"

namespace hone::kernels {
namespace {

using test::expect_close;
using test::expect_gradient;
using test::expect_message;

struct PolicyCase {
  Tensor now, old, advantages, ref, weights;
  PolicyLossOptions options;

  PolicyLoss run(at::ScalarType type) const {
    const auto as = [&](const Tensor& x) { return x.to(type); };
    return policy_loss(as(now), as(old), as(advantages), as(ref), as(weights), options);
  }
};

PolicyCase random_policy(std::mt19937& rng, int64_t n) {
  const auto normal = [&] { return at::randn({n}, at::kDouble); };
  PolicyCase c;
  c.now = -normal().abs();
  c.old = c.now + 0.3 * normal();
  c.ref = c.now + 0.5 * normal();
  c.advantages = normal();
  c.weights = at::rand({n}, at::kDouble) * (at::rand({n}, at::kDouble) < 0.8);
  const double clips[] = {0, 0.1, 0.2, 0.28};
  c.options.clip_low = clips[rng() % 4];
  c.options.clip_high = clips[rng() % 4];
  c.options.dual_clip = rng() % 2 ? 1.2 : 0;
  c.options.kl_coef = rng() % 2 ? 0.3 : 0;
  c.options.kl_estimator = std::vector<std::string>{"k1", "k2", "k3"}[rng() % 3];
  return c;
}

/// {loss, five metrics}, from the paper's formulas.
std::vector<double> policy_reference(const PolicyCase& c) {
  const auto& o = c.options;
  std::vector<double> out(6);
  for (int64_t i = 0; i < c.now.numel(); ++i) {
    const auto at = [i](const Tensor& x) { return x[i].item<double>(); };
    const double w = at(c.weights), a = at(c.advantages), x = at(c.now) - at(c.old);
    if (w == 0) continue;
    const double ratio = std::exp(x);
    const double clipped = std::min(std::max(ratio, 1 - o.clip_low), 1 + o.clip_high);
    double loss = -std::min(a * ratio, a * clipped);
    if (o.dual_clip > 0 && a < 0) loss = std::min(loss, -o.dual_clip * a);
    const double d = at(c.now) - at(c.ref);
    const double kl = o.kl_estimator == "k1"   ? d
                      : o.kl_estimator == "k2" ? d * d / 2
                                               : std::exp(-d) - 1 + d;
    out[0] += w * (loss + o.kl_coef * kl);
    out[1] += a * clipped < a * ratio ? w : 0;
    out[2] += w * x * x / 2;
    out[3] -= w * x;
    out[4] += w * ratio;
    out[5] = std::max(out[5], std::abs(ratio - 1));
  }
  return out;
}

TEST(PolicyLoss, MatchesTheFormulaOnRandomTokens) {
  at::manual_seed(1);
  std::mt19937 rng(1);
  for (int i = 0; i < 400; ++i) {
    const PolicyCase c = random_policy(rng, rng() % 70);
    const auto want = at::tensor(policy_reference(c), at::kDouble);
    for (auto [type, tolerance] : {std::pair{at::kDouble, 1e-11}, {at::kFloat, 5e-5}}) {
      const PolicyLoss got = c.run(type);
      EXPECT_EQ(got.loss.scalar_type(), type);
      EXPECT_EQ(got.metrics.scalar_type(), at::kDouble);
      expect_close(got.loss, want[0], tolerance, tolerance, "loss");
      // A float ratio may fall on the other side of an edge that doubles straddle.
      if (type == at::kDouble) {
        expect_close(got.metrics.slice(0, 0, 5), want.slice(0, 1), tolerance, tolerance);
      }
    }
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(PolicyLoss, GradientMatchesFiniteDifferences) {
  at::manual_seed(2);
  std::mt19937 rng(2);
  for (int i = 0; i < 60; ++i) {
    const PolicyCase c = random_policy(rng, 12);
    expect_gradient(
        [&](const Tensor& now) {
          return policy_loss(now, c.old, c.advantages, c.ref, c.weights, c.options).loss;
        },
        c.now, "case " + std::to_string(i));
  }
}

TEST(PolicyLoss, FreshPolicyHasRatioOneAndThePolicyGradient) {
  at::manual_seed(3);
  std::mt19937 rng(3);
  PolicyCase c = random_policy(rng, 50);
  c.old = c.now;
  c.options = {};
  const Tensor now = c.now.clone().requires_grad_(true);
  const auto got = policy_loss(now, c.old, c.advantages, std::nullopt, c.weights, c.options);
  got.loss.backward();
  expect_close(now.grad(), -c.advantages * c.weights, 0);
  EXPECT_EQ(got.metrics[0].item<double>(), 0);
  EXPECT_EQ(got.metrics[1].item<double>(), 0);
  EXPECT_EQ(got.metrics[4].item<double>(), 0);
}

TEST(PolicyLoss, MicroBatchesAddUpAndPackingOrderDoesNotMatter) {
  at::manual_seed(4);
  std::mt19937 rng(4);
  PolicyCase c = random_policy(rng, 5000);
  c.weights = c.weights / (c.weights > 0).sum();  // the global denominator
  const auto gradient_of = [](const PolicyCase& part) {
    const Tensor now = part.now.clone().requires_grad_(true);
    const auto out =
        policy_loss(now, part.old, part.advantages, part.ref, part.weights, part.options);
    out.loss.backward();
    return std::tuple(out.loss.detach(), out.metrics, now.grad());
  };
  const auto pick = [&](const Tensor& index) {
    PolicyCase p = c;
    for (Tensor* x : {&p.now, &p.old, &p.advantages, &p.ref, &p.weights}) {
      *x = x->index_select(0, index);
    }
    return p;
  };
  const auto [loss, metrics, grad] = gradient_of(c);
  for (const int64_t size : {1250, 833}) {
    Tensor loss_sum = at::zeros({}, at::kDouble), metric_sum = at::zeros({4}, at::kDouble);
    std::vector<Tensor> grads;
    for (int64_t begin = 0; begin < 5000; begin += size) {
      const auto [l, m, g] =
          gradient_of(pick(at::arange(begin, std::min<int64_t>(5000, begin + size), at::kLong)));
      loss_sum += l;
      metric_sum += m.slice(0, 0, 4);
      grads.push_back(g);
    }
    expect_close(loss_sum, loss, 1e-12);
    expect_close(metric_sum, metrics.slice(0, 0, 4), 1e-12);
    EXPECT_TRUE(at::equal(at::cat(grads), grad));
  }
  const Tensor order = at::randperm(5000, at::kLong);
  const auto [l, m, g] = gradient_of(pick(order));
  expect_close(l, loss, 1e-12);
  expect_close(m, metrics, 1e-12);
  EXPECT_TRUE(at::equal(g, grad.index_select(0, order)));
}

TEST(PolicyLoss, ThreadsChangeNoBit) {
  at::manual_seed(5);
  std::mt19937 rng(5);
  const PolicyCase c = random_policy(rng, 100000);
  at::set_num_threads(1);
  const auto one = c.run(at::kFloat);
  at::set_num_threads(4);
  const auto four = c.run(at::kFloat);
  at::set_num_threads(1);
  EXPECT_TRUE(at::equal(one.loss, four.loss));
  EXPECT_TRUE(at::equal(one.metrics, four.metrics));
}

TEST(PolicyLoss, TokensOfWeightZeroAreSkippedButBadOnesAreSeen) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Tensor x = at::tensor({-1.0, nan, -2.0}, at::kDouble);
  const Tensor weights = at::tensor({0.5, 0.0, 0.5}, at::kDouble);
  const Tensor now = x.clone().requires_grad_(true);
  const auto skipped = policy_loss(now, x, x, std::nullopt, weights, {});
  skipped.loss.backward();
  EXPECT_NEAR(skipped.loss.item<double>(), 1.5, 1e-15);
  EXPECT_EQ(now.grad()[1].item<double>(), 0);
  const auto seen = policy_loss(x, x, x, std::nullopt, at::ones_like(weights), {});
  EXPECT_TRUE(std::isnan(seen.loss.item<double>()));
  EXPECT_TRUE(std::isnan(seen.metrics[4].item<double>()));
}

TEST(PolicyLoss, ErrorsNameArgumentExpectedAndGot) {
  const Tensor x = at::zeros({3});
  const auto with = [&](const auto& change, const OptionalTensor& ref = std::nullopt) {
    PolicyLossOptions o;
    change(o);
    return [=] { policy_loss(x, x, x, ref, x, o); };
  };
  expect_message([&] { policy_loss(x, x.to(at::kDouble), x, std::nullopt, x, {}); },
                 "policy_loss: logp_old: expected Float [3] on cpu as logp_new, got Double [3]");
  expect_message([&] { policy_loss(x, x, x, std::nullopt, at::zeros({4}), {}); },
                 "policy_loss: token_weights: expected Float [3] on cpu as logp_new, got Float "
                 "[4]");
  expect_message([&] { policy_loss(x.to(at::kLong), x, x, std::nullopt, x, {}); },
                 "policy_loss: logp_new: expected float32 or float64, got Long [3] on cpu");
  expect_message(with([](auto& o) { o.clip_low = 2; }),
                 "policy_loss: clip_low: expected a number in [0, 1], got 2");
  expect_message(with([](auto& o) { o.clip_high = -1; }), "policy_loss: clip_high: ");
  expect_message(with([](auto& o) { o.dual_clip = 1; }),
                 "policy_loss: dual_clip: expected a number > 1, or 0 for none, got 1");
  expect_message(with([](auto& o) { o.kl_coef = 0.1; }),
                 "policy_loss: logp_ref: expected the reference log-probabilities that kl_coef "
                 "needs, got none");
  expect_message(with([](auto& o) { o.kl_estimator = "kl"; }, x), "policy_loss: kl_estimator: ");
}

TEST(ValueLoss, MatchesTheFormulaAndFiniteDifferences) {
  at::manual_seed(6);
  std::mt19937 rng(6);
  for (int i = 0; i < 10000; ++i) {
    const int64_t n = rng() % 12;
    const Tensor v = at::randn({n}, at::kDouble), target = at::randn({n}, at::kDouble);
    const Tensor old = v + 0.4 * at::randn({n}, at::kDouble);
    const Tensor w = at::rand({n}, at::kDouble) * (at::rand({n}, at::kDouble) < 0.8);
    const double clip = rng() % 3 ? 0.2 : -1;
    double loss = 0, fraction = 0, squared = 0;
    for (int64_t j = 0; j < n; ++j) {
      const auto at = [j](const Tensor& x) { return x.const_data_ptr<double>()[j]; };
      const double step = at(v) - at(old);
      const double held = clip > 0 ? at(old) + std::min(std::max(step, -clip), clip) : at(v);
      const double a = std::pow(at(v) - at(target), 2), b = std::pow(held - at(target), 2);
      loss += at(w) * 0.5 * std::max(a, b);
      fraction += b > a && std::abs(step) > clip ? at(w) : 0;
      squared += at(w) * a;
    }
    const auto got = value_loss(v, old, target, w, clip);
    expect_close(got.loss, at::scalar_tensor(loss, at::kDouble), 1e-12, 1e-12);
    expect_close(got.metrics, at::tensor({fraction, squared}, at::kDouble), 1e-12, 1e-12);
    const auto single = value_loss(v.to(at::kFloat), old.to(at::kFloat), target.to(at::kFloat),
                                   w.to(at::kFloat), clip);
    expect_close(single.loss, at::scalar_tensor(loss, at::kDouble), 1e-5, 1e-5);
    if (::testing::Test::HasFailure()) return;
    if (i % 300 == 0) {
      expect_gradient([&](const Tensor& x) { return value_loss(x, old, target, w, clip).loss; }, v,
                      "case " + std::to_string(i));
    }
  }
}

TEST(ValueLoss, ErrorsNameArgumentExpectedAndGot) {
  const Tensor x = at::zeros({3});
  expect_message([&] { value_loss(x, at::zeros({2}), x, x, 0.2); },
                 "value_loss: values_old: expected Float [3] on cpu as values, got Float [2]");
  expect_message([&] { value_loss(x, x, x, x, std::nan("")); }, "value_loss: clip: ");
}

/// float32 goes through vectors (kernels/cpu/loss_rows.cpp), double through kernels/math, which
/// other tests judge: the same numbers to float's rounding, whatever the length.
TEST(Losses, FloatVectorsAreTheDoubleFormulasOnTenThousandRandomBatches) {
  at::manual_seed(11);
  std::mt19937 rng(11);
  const auto chance = [&](int one_in) { return rng() % static_cast<uint64_t>(one_in) == 0; };
  const std::vector<std::string> estimators{"k1", "k2", "k3", "abs"};
  for (int round = 0; round < 3400; ++round) {  // of three losses each
    const auto n = static_cast<int64_t>(rng() % (chance(50) ? 3000 : 40));
    const auto draw = [&](double scale) { return at::randn({n}) * scale; };
    const Tensor old = draw(1), now = old + draw(0.3), ref = old + draw(0.5), target = draw(1);
    const Tensor weights = draw(1) * (at::rand({n}) < 0.8) / static_cast<double>(n + 1);
    PolicyLossOptions o{.clip_low = 0.2, .clip_high = 0.28};
    if (chance(2)) o.dual_clip = 2.5;
    if (chance(2)) o.kl_coef = 0.3, o.kl_estimator = estimators[rng() % 4];
    const double clip = chance(3) ? 0.0 : 0.25;
    const Tensor share = chance(2) ? at::rand({n}) : (at::rand({n}) < 0.5).to(at::kFloat);
    const auto run = [&](at::ScalarType type) {
      const auto as = [&](const Tensor& x) { return x.to(type); };
      const auto leaf = [&](const Tensor& x) {
        return as(x).detach().clone().requires_grad_(true);
      };
      const Tensor x = leaf(now), v = leaf(now), z = leaf(ref * 3);
      const auto policy = policy_loss(x, as(old), as(target), as(ref), as(weights), o);
      const auto value = value_loss(v, as(old), as(target), as(weights), clip);
      const Tensor pair = preference_loss(z, as(share), as(weights), as(old), {});
      (policy.loss + value.loss + pair).backward();
      return std::vector<Tensor>{policy.loss, policy.metrics, value.loss, value.metrics,
                                 pair,        x.grad(),       v.grad(),   z.grad()};
    };
    const auto got = run(at::kFloat), want = run(at::kDouble);
    for (size_t i = 0; i < got.size(); ++i) {
      expect_close(got[i], want[i].detach(), 1e-5, 1e-5, "result " + std::to_string(i));
    }
    if (::testing::Test::HasFailure()) FAIL() << "round " << round << ", " << n << " tokens";
  }
}

TEST(Losses, FloatVectorsBearWhatIsFarOut) {
  const float inf = std::numeric_limits<float>::infinity();
  const Tensor x = at::tensor({0.0f, 100.0f, -100.0f, 88.5f});
  const Tensor zero = at::zeros({4}), one = at::ones({4});
  const auto seen = policy_loss(x, zero, one, std::nullopt, one, {});
  EXPECT_EQ(seen.metrics[0].item<double>(), 2);  // the ratios that overflow are clipped
  EXPECT_EQ(seen.metrics[4].item<double>(), inf);
  EXPECT_NEAR(seen.loss.item<double>(), -1 - 1.2 - 0 - 1.2, 1e-6);
  const Tensor far = at::tensor({inf, -inf, 1e30f, -1e30f}).requires_grad_(true);
  const Tensor loss =
      preference_loss(far, at::tensor({1.0f, 0.0f, 1.0f, 0.0f}), one, std::nullopt, {});
  loss.backward();
  EXPECT_EQ(loss.item<double>(), 0);
  EXPECT_TRUE(at::equal(far.grad(), zero));
}

TEST(Losses, RefuseASecondDerivative) {
  const Tensor x = at::zeros({3}).requires_grad_(true);
  const Tensor loss = value_loss(x, x.detach(), x.detach(), at::ones({3}), 0.2).loss;
  expect_message([&] { torch::autograd::grad({loss}, {x}, {}, true, /*create_graph=*/true); },
                 "value_loss: backward: expected create_graph=False");
}

}  // namespace
}  // namespace hone::kernels
