// preference_loss against the models' probabilities written out plainly.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "kernels/ops.h"
#include "tests/kernels/expect_message.h"
#include "tests/kernels/finite_difference.h"

namespace hone::kernels {
namespace {

using test::expect_close;
using test::expect_gradient;
using test::expect_message;

/// P(first), P(second), P(tie) for strengths e^z and 1.
struct Probabilities {
  double first, second, tie;
};

Probabilities probabilities(double z, const PreferenceLossOptions& o) {
  const double a = std::exp(z), b = 1;
  if (o.model == "davidson") {
    const double total = a + b + o.tie * std::sqrt(a * b);
    return {a / total, b / total, o.tie * std::sqrt(a * b) / total};
  }
  if (o.model == "rao_kupper") {
    const double first = a / (a + o.tie * b), second = b / (b + o.tie * a);
    return {first, second, 1 - first - second};
  }
  return {a / (a + b), b / (a + b), 0};
}

double reference(double z, double target, const PreferenceLossOptions& o) {
  const Probabilities p = probabilities(z, o);
  const double keep = 1 - 2 * o.lapse;
  if (o.model != "bradley_terry" && target == 0.5) return -std::log(keep * p.tie);
  return -target * std::log(keep * p.first + o.lapse) -
         (1 - target) * std::log(keep * p.second + o.lapse);
}

std::vector<PreferenceLossOptions> models() {
  std::vector<PreferenceLossOptions> all;
  for (const double lapse : {0.0, 0.05, 0.2}) {
    all.push_back({"bradley_terry", 0, lapse});
    all.push_back({"davidson", 0.7, lapse});
    all.push_back({"davidson", 2.5, lapse});
    all.push_back({"rao_kupper", 1.3, lapse});
    all.push_back({"rao_kupper", 4, lapse});
  }
  return all;
}

Tensor random_targets(int64_t n) {
  // Wins, losses, ties and soft labels alike.
  const double kinds[] = {0, 0.5, 1, 0.9, 0.25};
  Tensor t = at::empty({n}, at::kDouble);
  for (int64_t i = 0; i < n; ++i) t[i] = kinds[i % 5];
  return t;
}

TEST(PreferenceLoss, MatchesTheModelsAndFiniteDifferences) {
  at::manual_seed(1);
  for (const auto& o : models()) {
    for (const int64_t n : {0, 1, 5, 31, 64}) {
      const Tensor delta = 3 * at::randn({n}, at::kDouble), target = random_targets(n);
      const Tensor weights = at::randn({n}, at::kDouble), margin = at::rand({n}, at::kDouble);
      double want = 0;
      for (int64_t i = 0; i < n; ++i) {
        want += weights[i].item<double>() *
                reference((delta[i] - margin[i]).item<double>(), target[i].item<double>(), o);
      }
      const auto loss = [&](const Tensor& x) {
        return preference_loss(x, target, weights, margin, o);
      };
      const std::string what = o.model + " " + std::to_string(o.tie);
      expect_close(loss(delta), at::scalar_tensor(want, at::kDouble), 1e-11, 1e-11, what);
      expect_close(preference_loss(delta.to(at::kFloat), target.to(at::kFloat),
                                   weights.to(at::kFloat), margin.to(at::kFloat), o),
                   at::scalar_tensor(want, at::kDouble), 1e-4, 1e-4, what + " float");
      expect_gradient(loss, delta, what);
    }
  }
}

TEST(PreferenceLoss, MatchesTheModelsOnTenThousandRandomBatches) {
  std::mt19937 rng(7);
  std::normal_distribution<double> normal;
  const auto all = models();
  for (int i = 0; i < 10000; ++i) {
    const auto& o = all[static_cast<size_t>(i) % all.size()];
    std::vector<double> delta, target, weight, margin;
    double want = 0;
    for (size_t n = rng() % 9; n-- > 0;) {
      const double kinds[] = {0, 0.5, 1, 0.9, 0.25};
      delta.push_back(3 * normal(rng));
      target.push_back(kinds[rng() % 5]);
      weight.push_back(rng() % 4 ? normal(rng) : 0);
      margin.push_back(normal(rng));
      if (weight.back() == 0) continue;
      want += weight.back() * reference(delta.back() - margin.back(), target.back(), o);
    }
    const auto as = [](const std::vector<double>& x) { return at::tensor(x, at::kDouble); };
    const double got =
        preference_loss(as(delta), as(target), as(weight), as(margin), o).item<double>();
    ASSERT_NEAR(got, want, 1e-9 * (1 + std::fabs(want))) << o.model << " case " << i;
  }
}

TEST(PreferenceLoss, ProbabilitiesAddUpToOne) {
  for (const auto& o : models()) {
    for (const double z : {-6.0, -0.3, 0.0, 1.0, 5.0}) {
      const auto likelihood = [&](double target) {
        const Tensor one = at::ones({1}, at::kDouble);
        return std::exp(
            -preference_loss(one * z, one * target, one, std::nullopt, o).item<double>());
      };
      const double tie = o.model == "bradley_terry" ? 0 : likelihood(0.5);
      EXPECT_NEAR(likelihood(0) + likelihood(1) + tie, 1, 1e-12) << o.model << " at " << z;
    }
  }
}

TEST(PreferenceLoss, StaysFiniteFarOut) {
  for (const auto& o : models()) {
    for (const double z : {-600.0, 600.0}) {
      for (const double target : {0.0, 0.5, 1.0, 0.3}) {
        Tensor delta = at::full({1}, z, at::kDouble).requires_grad_(true);
        const Tensor one = at::ones({1}, at::kDouble);
        const Tensor loss = preference_loss(delta, one * target, one, std::nullopt, o);
        loss.backward();
        EXPECT_TRUE(std::isfinite(loss.item<double>())) << o.model << z << " " << target;
        EXPECT_TRUE(std::isfinite(delta.grad().item<double>())) << o.model << z << " " << target;
      }
    }
  }
}

TEST(PreferenceLoss, SwappingTheSidesChangesNothing) {
  at::manual_seed(2);
  const Tensor delta = at::randn({50}, at::kDouble), target = random_targets(50);
  const Tensor weights = at::rand({50}, at::kDouble);
  for (const auto& o : models()) {
    expect_close(preference_loss(-delta, 1 - target, weights, std::nullopt, o),
                 preference_loss(delta, target, weights, std::nullopt, o), 1e-12, 0, o.model);
  }
}

/// The vectors' own logarithm and exponential, to the last bits, far out too.
TEST(PreferenceLoss, FloatsAgreeWithDoubleOneByOne) {
  constexpr int64_t kPairs = 1001;
  const Tensor z = at::linspace(-86, 86, kPairs, at::kFloat);
  for (const double share : {0.0, 0.25, 1.0}) {
    const auto both = [&](at::ScalarType type) {
      Tensor x = at::empty({kPairs}, type);
      x.copy_(z);
      const Tensor target = at::full({kPairs}, share, type), ones = at::ones({kPairs}, type);
      Tensor losses = at::empty({kPairs}, at::kDouble);
      for (int64_t i = 0; i < kPairs; ++i) {
        losses[i] = preference_loss(x.narrow(0, i, 1), target.narrow(0, i, 1), ones.narrow(0, i, 1),
                                    std::nullopt, {});
      }
      x.requires_grad_(true);
      preference_loss(x, target, ones, std::nullopt, {}).backward();
      return std::pair(losses, x.grad());
    };
    const auto [loss, slope] = both(at::kFloat);
    const auto [want_loss, want_slope] = both(at::kDouble);
    expect_close(loss, want_loss, 0, 5e-7, "loss at share " + std::to_string(share));
    // Where shares of both signs meet, the difference keeps the error of its parts.
    expect_close(slope, want_slope, share == 0.25 ? 1e-7 : 0, 5e-7, "slope");
  }
}

TEST(PreferenceLoss, OneBadTargetAmongManyIsNamed) {
  const Tensor x = at::zeros({200001}), bad = at::zeros({200001});
  bad[150000] = std::nanf("");
  bad[200000] = -1;
  expect_message([&] { preference_loss(x, bad, x, std::nullopt, {}); },
                 "preference_loss: target[150000]: expected a number in [0, 1], got nan");
}

TEST(PreferenceLoss, DavidsonWithoutTiesIsBradleyTerry) {
  const Tensor delta = at::linspace(-4, 4, 9, at::kDouble), one = at::ones({9}, at::kDouble);
  const Tensor bt = preference_loss(delta, one, one, std::nullopt, {});
  expect_close(preference_loss(delta, one, one, std::nullopt, {"davidson", 0, 0}), bt, 1e-12);
  expect_close(preference_loss(delta, one, one, std::nullopt, {"rao_kupper", 1, 0}), bt, 1e-12);
}

TEST(PreferenceLoss, ErrorsNameArgumentExpectedAndGot) {
  const Tensor x = at::zeros({2});
  const auto with = [&](const PreferenceLossOptions& o) {
    return [=] { preference_loss(x, x, x, std::nullopt, o); };
  };
  expect_message(
      [&] {
        preference_loss(x, at::tensor({0.5f, 1.5f}), x, std::nullopt, {});
      },
      "preference_loss: target[1]: expected a number in [0, 1], got 1.5");
  expect_message([&] { preference_loss(x, x, x, at::zeros({3}), {}); },
                 "preference_loss: margin: expected Float [2] on cpu as delta, got Float [3]");
  expect_message(with({"thurstone", 0, 0}), "preference_loss: model: ");
  expect_message(with({"bradley_terry", 0, 0.5}),
                 "preference_loss: lapse: expected a number in [0, 0.5), got 0.5");
  expect_message(with({"davidson", -1, 0}), "preference_loss: tie (nu of davidson): ");
  expect_message(with({"rao_kupper", 0.5, 0}), "preference_loss: tie (theta of rao_kupper): ");
}

}  // namespace
}  // namespace hone::kernels
