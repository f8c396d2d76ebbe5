// direct_loss, kto_loss and ranking_loss against plain double loops written from the papers, and
// their gradients against central differences.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "kernels/ops.h"
#include "tests/kernels/expect_message.h"
#include "tests/kernels/finite_difference.h"

namespace hone::kernels {
namespace {

using test::expect_close;
using test::expect_gradient;
using test::expect_message;
using Numbers = std::vector<double>;

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

const std::vector<std::string> kKinds = {"dpo",   "robust_dpo", "ipo",  "ipo_mean",
                                         "hinge", "simpo",      "orpo", "cpo"};

struct Case {
  Numbers chosen, rejected, ref_chosen, ref_rejected, length_chosen, length_rejected, weight;
  bool has_reference;
  DirectLossOptions options;

  DirectPairs pairs(at::ScalarType type) const {
    const auto as = [&](const Numbers& x) { return at::tensor(x, at::kDouble).to(type); };
    DirectPairs p{as(chosen), as(rejected), {}, {}, as(length_chosen), as(length_rejected)};
    if (has_reference) {
      p.ref_chosen = as(ref_chosen);
      p.ref_rejected = as(ref_rejected);
    }
    return p;
  }
  Tensor weights(at::ScalarType type) const { return at::tensor(weight, at::kDouble).to(type); }
};

Case random_case(std::mt19937& rng, const std::string& kind) {
  std::uniform_real_distribution<double> uniform;
  Case c;
  for (size_t n = rng() % 12; n-- > 0;) {
    const auto length = [&] { return 1.0 + static_cast<double>(rng() % 12); };
    const auto logp = [&](double tokens) { return -tokens * (0.05 + 2 * uniform(rng)); };
    c.length_chosen.push_back(length());
    c.length_rejected.push_back(length());
    c.chosen.push_back(logp(c.length_chosen.back()));
    c.rejected.push_back(logp(c.length_rejected.back()));
    c.ref_chosen.push_back(logp(c.length_chosen.back()));
    c.ref_rejected.push_back(logp(c.length_rejected.back()));
    c.weight.push_back(rng() % 5 ? 2 * uniform(rng) - 0.5 : 0);
  }
  auto& o = c.options;
  o.kind = kind;
  o.beta = 0.05 + uniform(rng);
  const bool free = kind == "simpo" || kind == "orpo" || kind == "cpo";
  c.has_reference = !free && rng() % 4;
  const bool logistic = kind == "dpo" || kind == "simpo" || kind == "cpo";
  if (logistic || kind == "robust_dpo") o.label_smoothing = rng() % 2 ? 0.1 : 0;
  if (logistic) o.margin = rng() % 2 ? 0.7 : 0;
  if (rng() % 3 == 0) o.nll_coef = 0.3;
  return c;
}

double pair_loss(const Case& c, size_t i) {
  const auto& o = c.options;
  const double rc = c.has_reference ? c.ref_chosen[i] : 0;
  const double rr = c.has_reference ? c.ref_rejected[i] : 0;
  const double h = (c.chosen[i] - rc) - (c.rejected[i] - rr);
  const double mean_h =
      (c.chosen[i] - rc) / c.length_chosen[i] - (c.rejected[i] - rr) / c.length_rejected[i];
  const double nll = -c.chosen[i] / c.length_chosen[i], e = o.label_smoothing;
  const auto smooth = [&](double z) {
    return -(1 - e) * std::log(sigmoid(z)) - e * std::log(sigmoid(-z));
  };
  double loss = 0;
  if (o.kind == "dpo" || o.kind == "cpo") loss = smooth(o.beta * h - o.margin);
  if (o.kind == "simpo") loss = smooth(o.beta * mean_h - o.margin);
  if (o.kind == "robust_dpo") {
    loss = (-(1 - e) * std::log(sigmoid(o.beta * h)) + e * std::log(sigmoid(-o.beta * h))) /
           (1 - 2 * e);
  }
  if (o.kind == "ipo") loss = std::pow(h - 1 / (2 * o.beta), 2);
  if (o.kind == "ipo_mean") loss = std::pow(mean_h - 1 / (2 * o.beta), 2);
  if (o.kind == "hinge") loss = std::max(0.0, 1 - o.beta * h);
  if (o.kind == "orpo") {
    const auto odds = [](double logp, double n) {
      const double p = std::exp(logp / n);
      return p / (1 - p);
    };
    const double ratio =
        odds(c.chosen[i], c.length_chosen[i]) / odds(c.rejected[i], c.length_rejected[i]);
    loss = -o.beta * std::log(sigmoid(std::log(ratio)));
  }
  return loss + o.nll_coef.value_or(o.kind == "orpo" || o.kind == "cpo" ? 1 : 0) * nll;
}

TEST(DirectLoss, MatchesTheFormulasOnTenThousandRandomBatches) {
  std::mt19937 rng(1);
  for (int i = 0; i < 10000; ++i) {
    const Case c = random_case(rng, kKinds[static_cast<size_t>(i) % kKinds.size()]);
    const bool means =
        c.options.kind == "simpo" || c.options.kind == "orpo" || c.options.kind == "ipo_mean";
    double want = 0;
    Numbers metrics(4);
    for (size_t p = 0; p < c.chosen.size(); ++p) {
      const double w = c.weight[p];
      want += w * pair_loss(c, p);
      const auto reward = [&](const Numbers& x, const Numbers& ref, const Numbers& n) {
        return c.options.beta * (x[p] - (c.has_reference ? ref[p] : 0)) / (means ? n[p] : 1);
      };
      const double a = reward(c.chosen, c.ref_chosen, c.length_chosen);
      const double b = reward(c.rejected, c.ref_rejected, c.length_rejected);
      metrics[0] += a > b ? w : 0;
      metrics[1] += w * (a - b);
      metrics[2] += w * a;
      metrics[3] += w * b;
    }
    const DirectLoss got = direct_loss(c.pairs(at::kDouble), c.weights(at::kDouble), c.options);
    ASSERT_NEAR(got.loss.item<double>(), want, 1e-9 * (1 + std::fabs(want))) << c.options.kind;
    expect_close(got.metrics, at::tensor(metrics, at::kDouble), 1e-9, 1e-9, c.options.kind);
    if (i % 8 == 0) {
      const DirectLoss single = direct_loss(c.pairs(at::kFloat), c.weights(at::kFloat), c.options);
      ASSERT_NEAR(single.loss.item<double>(), want, 2e-5 * (5 + std::fabs(want)));
    }
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(DirectLoss, GradientsMatchFiniteDifferences) {
  std::mt19937 rng(2);
  for (int i = 0; i < 160; ++i) {
    const Case c = random_case(rng, kKinds[static_cast<size_t>(i) % kKinds.size()]);
    const DirectPairs pairs = c.pairs(at::kDouble);
    const Tensor weights = c.weights(at::kDouble);
    const std::string what = c.options.kind + " " + std::to_string(i);
    const auto of_chosen = [&](const Tensor& x) {
      DirectPairs p = pairs;
      p.logp_chosen = x;
      return direct_loss(p, weights, c.options).loss;
    };
    const auto of_rejected = [&](const Tensor& x) {
      DirectPairs p = pairs;
      p.logp_rejected = x;
      return direct_loss(p, weights, c.options).loss;
    };
    expect_gradient(of_chosen, pairs.logp_chosen, what + " chosen");
    expect_gradient(of_rejected, pairs.logp_rejected, what + " rejected");
  }
}

TEST(DirectLoss, StaysFiniteFarOut) {
  for (const auto& kind : kKinds) {
    for (const double far : {-900.0, 0.0, 900.0}) {
      DirectPairs p;
      p.logp_chosen = at::full({1}, -1000.0 + far, at::kDouble).requires_grad_(true);
      p.logp_rejected = at::full({1}, -1000.0, at::kDouble).requires_grad_(true);
      p.length_chosen = p.length_rejected = at::full({1}, 5.0, at::kDouble);
      DirectLossOptions o;
      o.kind = kind;
      const Tensor loss = direct_loss(p, at::ones({1}, at::kDouble), o).loss;
      loss.backward();
      EXPECT_TRUE(std::isfinite(loss.item<double>())) << kind << far;
      EXPECT_TRUE(std::isfinite(p.logp_chosen.grad().item<double>())) << kind << far;
      EXPECT_TRUE(std::isfinite(p.logp_rejected.grad().item<double>())) << kind << far;
    }
  }
}

TEST(DirectLoss, ErrorsNameArgumentExpectedAndGot) {
  const Tensor x = at::full({2}, -1.0);
  const auto with = [&](const auto& change, DirectPairs p = {}) {
    DirectLossOptions o;
    change(o);
    if (!p.logp_chosen.defined()) p.logp_chosen = x;
    if (!p.logp_rejected.defined()) p.logp_rejected = x;
    return [=] { direct_loss(p, x, o); };
  };
  const auto nothing = [](auto&) {};
  expect_message(with([](auto& o) { o.kind = "kto"; }), "direct_loss: kind: expected \"dpo\", ");
  expect_message(with([](auto& o) { o.beta = 0; }),
                 "direct_loss: beta: expected a finite number > 0, got 0");
  expect_message(with([](auto& o) { o.label_smoothing = 0.5; }),
                 "direct_loss: label_smoothing: expected a number in [0, 0.5), got 0.5");
  expect_message(with([](auto& o) { o.kind = "ipo", o.label_smoothing = 0.1; }),
                 "direct_loss: label_smoothing: expected 0 with kind \"ipo\", got 0.1");
  expect_message(with([](auto& o) { o.kind = "hinge", o.margin = 1; }),
                 "direct_loss: margin: expected 0 with kind \"hinge\", got 1");
  expect_message(with([](auto& o) { o.nll_coef = -1.0; }), "direct_loss: nll_coef: ");
  expect_message(with([](auto& o) { o.kind = "simpo"; }),
                 "direct_loss: length_chosen: expected numbers of tokens, which kind \"simpo\" or "
                 "nll_coef needs, got none");
  expect_message(with(nothing, {x, x, x, {}, {}, {}}),
                 "direct_loss: ref_rejected: expected both references or none, got ref_chosen "
                 "alone");
  expect_message(with([](auto& o) { o.kind = "orpo"; }, {x, x, x, x, {}, {}}),
                 "direct_loss: ref_chosen: expected none: kind \"orpo\" has no reference, got "
                 "Float [2] on cpu");
  expect_message(with(nothing, {x, at::zeros({3}), {}, {}, {}, {}}),
                 "direct_loss: logp_rejected: expected Float [2] on cpu as logp_chosen, got Float "
                 "[3]");
  expect_message(with(nothing, {x, x, {}, {}, at::tensor({1.0f, 0.0f}), {}}),
                 "direct_loss: length_chosen[1]: expected a number >= 1, got 0");
}

TEST(KtoLoss, MatchesTheFormulaOnTenThousandRandomBatches) {
  std::mt19937 rng(3);
  std::normal_distribution<double> normal;
  for (int i = 0; i < 10000; ++i) {
    Numbers logp, ref, weight;
    std::vector<int64_t> desirable;
    for (size_t n = rng() % 10; n-- > 0;) {
      logp.push_back(-5 + normal(rng));
      ref.push_back(-5 + normal(rng));
      weight.push_back(rng() % 4 ? std::fabs(normal(rng)) : 0);
      desirable.push_back(rng() % 2);
    }
    const KtoLossOptions o{0.1 + std::fabs(normal(rng)), 1.3, 0.7};
    const double kl = 0.3 * normal(rng), z0 = std::max(0.0, kl);
    double want = 0;
    Numbers metrics(4);
    for (size_t p = 0; p < logp.size(); ++p) {
      const double u = logp[p] - ref[p];
      want += weight[p] * (desirable[p] ? 1.3 * (1 - sigmoid(o.beta * (u - z0)))
                                        : 0.7 * (1 - sigmoid(o.beta * (z0 - u))));
      metrics[desirable[p] ? 0 : 1] += weight[p] * o.beta * u;
      metrics[desirable[p] ? 2 : 3] += weight[p];
    }
    const auto as = [](const Numbers& x) { return at::tensor(x, at::kDouble); };
    const Tensor good = at::tensor(desirable, at::kLong).to(i % 2 ? at::kBool : at::kByte);
    const auto run = [&](const Tensor& x) {
      return kto_loss(x, as(ref), good, as(weight), at::full({}, kl, at::kDouble), o);
    };
    const DirectLoss got = run(as(logp));
    ASSERT_NEAR(got.loss.item<double>(), want, 1e-12 * (1 + std::fabs(want)));
    expect_close(got.metrics, as(metrics), 1e-12, 1e-12);
    if (i % 200 == 0)
      expect_gradient([&](const Tensor& x) { return run(x).loss; }, as(logp), "kto");
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(KtoLoss, ErrorsNameArgumentExpectedAndGot) {
  const Tensor x = at::zeros({2}), good = at::ones({2}, at::kBool), kl = at::zeros({});
  expect_message([&] { kto_loss(x, x, x, x, kl, {}); },
                 "kto_loss: desirable: expected uint8 or bool [P] with P = 2, got Float [2]");
  expect_message([&] { kto_loss(x, x, good, x, x, {}); },
                 "kto_loss: kl: expected one number [] = [], got Float [2] on cpu");
  expect_message([&] { kto_loss(x, at::zeros({1}), good, x, kl, {}); }, "kto_loss: logp_ref: ");
  expect_message([&] { kto_loss(x, x, good, x, kl, {0.0, 1.0, 1.0}); }, "kto_loss: beta: ");
  expect_message(
      [&] {
        kto_loss(x, x, good, x, kl, {1.0, -1.0, 1.0});
      },
      "kto_loss: desirable_weight: expected a finite number >= 0, got -1");
}

}  // namespace
}  // namespace hone::kernels
