// adamw_step and grad_norm against the published algorithm in plain double loops and against the
// reference vectors.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <vector>

#include "kernels/ops.h"
#include "tests/kernels/expect_message.h"
#include "tests/kernels/same_bits.h"
#include "tests/support/expect_close.h"

namespace hone::kernels {
namespace {

using test::expect_close;
using test::expect_message;

struct Arena {
  Tensor param, m, v;

  static Arena zeros(int64_t size, at::ScalarType type) {
    return {at::zeros({size}, type), at::zeros({size}, type), at::zeros({size}, type)};
  }
  Arena clone() const { return {param.clone(), m.clone(), v.clone()}; }
  void step(const Tensor& grad, const std::vector<int64_t>& offsets, const std::vector<double>& lr,
            const std::vector<double>& decay, double scale, int64_t number,
            const AdamWOptions& options) {
    adamw_step(param, grad, m, v, offsets, lr, decay, at::full({}, scale, at::kDouble), number,
               options);
  }
};

TEST(AdamW, GoldenVectors) {
  const char* root = std::getenv("HONE_SOURCE_DIR");
  std::ifstream file(std::string(root ? root : ".") + "/../shared/golden/golden_vectors.json");
  if (!file) GTEST_SKIP() << "shared/golden/golden_vectors.json is absent";
  const auto golden = nlohmann::json::parse(file);
  for (const std::string mode : {"torch", "tf1"}) {
    Arena arena = Arena::zeros(1, at::kDouble);
    arena.param.fill_(1.0);
    AdamWOptions options;
    options.eps = golden["adam/eps"];
    options.eps_mode = mode;
    int64_t number = 0;
    for (const double g : golden["adam/grads"]) {
      arena.step(at::full({1}, g, at::kDouble), {0, 1}, {golden["adam/lr"].get<double>()}, {0.0},
                 1.0, ++number, options);
      EXPECT_NEAR(arena.param.item<double>(),
                  golden["adam/" + mode + "_theta"][number - 1].get<double>(), 1e-13)
          << mode << " step " << number;
    }
  }
}

/// Loshchilov & Hutter 2019, algorithm 2, one element at a time.
void reference_step(std::vector<double>& p, const std::vector<double>& g, std::vector<double>& m,
                    std::vector<double>& v, size_t begin, size_t end, double lr, double decay,
                    int64_t t, const AdamWOptions& o) {
  for (size_t i = begin; i < end; ++i) {
    m[i] = o.beta1 * m[i] + (1 - o.beta1) * g[i];
    v[i] = o.beta2 * v[i] + (1 - o.beta2) * g[i] * g[i];
    const double m_hat = m[i] / (1 - std::pow(o.beta1, t));
    const double v_hat = v[i] / (1 - std::pow(o.beta2, t));
    p[i] -= lr * decay * p[i];
    p[i] -= lr * m_hat / (std::sqrt(v_hat) + o.eps);
  }
}

TEST(AdamW, SlicesFollowTheAlgorithm) {
  at::manual_seed(1);
  constexpr int64_t kSize = 40000;
  // An empty slice, a slice within one vector, and elements before and after all slices.
  const std::vector<int64_t> offsets{5, 12, 12, 20001, 39990};
  const std::vector<double> lr{1e-2, 1.0, 3e-3, 1e-3}, decay{0.1, 0.5, 0.0, 0.01};
  AdamWOptions options;
  options.beta2 = 0.95;
  Arena arena = Arena::zeros(kSize, at::kDouble);
  arena.param.copy_(at::randn({kSize}));
  Arena single{arena.param.to(at::kFloat), arena.m.to(at::kFloat), arena.v.to(at::kFloat)};
  const auto plain = [](const Tensor& x) {
    return std::vector<double>(x.data_ptr<double>(), x.data_ptr<double>() + x.numel());
  };
  std::vector<double> p = plain(arena.param), m = plain(arena.m), v = plain(arena.v);
  for (int64_t t = 1; t <= 4; ++t) {
    const Tensor grad = at::randn({kSize}, at::kDouble);
    arena.step(grad, offsets, lr, decay, 0.5, t, options);
    single.step(grad.to(at::kFloat), offsets, lr, decay, 0.5, t, options);
    const std::vector<double> g = plain(grad * 0.5);
    for (size_t s = 0; s < lr.size(); ++s) {
      reference_step(p, g, m, v, offsets[s], offsets[s + 1], lr[s], decay[s], t, options);
    }
  }
  expect_close(arena.param, at::tensor(p, at::kDouble), 1e-14, 1e-13, "param");
  expect_close(arena.m, at::tensor(m, at::kDouble), 1e-15, 1e-13, "m");
  expect_close(arena.v, at::tensor(v, at::kDouble), 1e-15, 1e-13, "v");
  expect_close(single.param, at::tensor(p, at::kDouble), 2e-6, 2e-6, "float32 param");
}

TEST(AdamW, SameBitsOnAnyThreadsAndHoweverSliced) {
  at::manual_seed(2);
  Arena start = Arena::zeros(70001, at::kFloat);
  start.param.copy_(at::randn({70001}));
  const Tensor grad = at::randn({70001}, at::kFloat);
  const auto run = [&](const std::vector<int64_t>& offsets) {
    Arena arena = start.clone();
    const std::vector<double> lr(offsets.size() - 1, 1e-3), decay(offsets.size() - 1, 0.1);
    for (int64_t t = 1; t <= 3; ++t) arena.step(grad, offsets, lr, decay, 0.7, t, {});
    return std::vector<Tensor>{arena.param, arena.m, arena.v};
  };
  test::expect_same_bits_on_any_threads([&] { return run({0, 70001}); }, "adamw_step");
  const auto whole = run({0, 70001}), parts = run({0, 3, 777, 40000, 70001});
  for (size_t i = 0; i < whole.size(); ++i) EXPECT_TRUE(at::equal(whole[i], parts[i])) << i;
}

TEST(AdamW, UpdatesAParameterThatRequiresAGradient) {
  Tensor param = at::ones({3}, at::kFloat).requires_grad_(true);
  adamw_step(param, at::ones({3}), at::zeros({3}), at::zeros({3}), {0, 3}, {0.1}, {0.0},
             at::ones({}), 1, {});
  expect_close(param, at::full({3}, 0.9), 1e-6);
}

TEST(AdamW, ErrorsNameArgumentExpectedAndGot) {
  const Arena a = Arena::zeros(4, at::kFloat);
  const Tensor grad = at::zeros({4}), one = at::ones({});
  const auto call = [&](std::vector<int64_t> offsets, std::vector<double> lr, int64_t step,
                        AdamWOptions options) {
    return [=] {
      adamw_step(a.param, grad, a.m, a.v, offsets, lr, std::vector<double>(lr.size(), 0.0), one,
                 step, options);
    };
  };
  expect_message(call({0, 4}, {0.1}, 0, {}), "adamw_step: step: expected at least 1, got 0");
  expect_message(call({0, 5}, {0.1}, 1, {}), "adamw_step: offsets: expected values up to 4, got 5");
  expect_message(call({0, 3, 2}, {0.1, 0.1}, 1, {}),
                 "adamw_step: offsets: expected values that never fall, got 3 then 2 at 2");
  expect_message(call({0, 4, 4}, {0.1}, 1, {}),
                 "adamw_step: offsets: expected 2 values, one more than lr, got 3");
  AdamWOptions unknown;
  unknown.eps_mode = "jax";
  expect_message(call({0, 4}, {0.1}, 1, unknown),
                 "adamw_step: eps_mode: expected \"torch\" or \"tf1\", got \"jax\"");
  expect_message(
      [&] {
        adamw_step(a.param, at::zeros({3}), a.m, a.v, {0, 4}, {0.1}, {0.0}, one, 1, {});
      },
      "adamw_step: grad: expected Float [4] on cpu as param, got Float [3] on cpu");
}

TEST(GradNorm, IsExactToDoubleAndRepeats) {
  at::manual_seed(3);
  for (const auto type : {at::kFloat, at::kDouble}) {
    for (const int64_t size : {0, 1, 15, 16, 17, 16384, 16385, 100000}) {
      const Tensor x = at::randn({size}, type);
      double sum = 0;
      for (int64_t i = 0; i < size; ++i) {
        const double value = x[i].item<double>();
        sum += value * value;
      }
      const Tensor norm = grad_norm(x);
      EXPECT_EQ(norm.scalar_type(), at::kDouble);
      EXPECT_EQ(norm.dim(), 0);
      EXPECT_NEAR(norm.item<double>(), std::sqrt(sum), 1e-12 * std::sqrt(sum)) << size;
    }
  }
  const Tensor x = at::randn({100000}, at::kFloat);
  test::expect_same_bits_on_any_threads([&] { return std::vector<Tensor>{grad_norm(x)}; },
                                        "grad_norm");
  EXPECT_TRUE(std::isnan(grad_norm(at::full({3}, std::nan(""))).item<double>()));
}

TEST(AdamW, MixedPrecisionIsTheMasterRoundedOnce) {
  for (const int64_t size : {1, 15, 16, 33, 70000}) {
    Arena full = Arena::zeros(size, at::kFloat);
    full.param = at::randn({size});
    Arena mixed = full.clone();
    const Tensor grad = at::randn({size}).to(at::kBFloat16);
    const Tensor rounded = at::full({size}, 9, at::kBFloat16), one = at::ones({}, at::kDouble);
    for (int64_t step = 1; step <= 3; ++step) {
      full.step(grad.to(at::kFloat), {0, size / 2, size}, {0.1, 0.2}, {0.1, 0}, 1, step, {});
      adamw_step(mixed.param, grad, mixed.m, mixed.v, {0, size / 2, size},
                 std::vector<double>{0.1, 0.2}, std::vector<double>{0.1, 0}, one, step, {},
                 rounded);
    }
    EXPECT_TRUE(at::equal(mixed.param, full.param));
    EXPECT_TRUE(at::equal(mixed.v, full.v));
    EXPECT_TRUE(at::equal(rounded, full.param.to(at::kBFloat16)));
  }
  // Outside the slices the rounded copy is not touched either; NaN stays NaN.
  Arena a = Arena::zeros(4, at::kFloat);
  a.param[1] = std::nan("");
  const Tensor rounded = at::full({4}, 9, at::kBFloat16), one = at::ones({}, at::kDouble);
  adamw_step(a.param, at::zeros({4}), a.m, a.v, {0, 2}, std::vector<double>{0.1},
             std::vector<double>{0.0}, one, 1, {}, rounded);
  EXPECT_EQ(rounded[2].item<double>(), 9);
  EXPECT_TRUE(std::isnan(rounded[1].item<double>()));
}

/// Ten thousand arenas of random slices against the published algorithm in double loops.
TEST(AdamW, RandomSlicesAgainstDoubleLoops) {
  std::mt19937 rng(5);
  std::uniform_real_distribution<double> uniform;
  for (int round = 0; round < 10000; ++round) {
    const auto size = static_cast<int64_t>(rng() % 60);
    const bool tf1 = rng() % 2;
    AdamWOptions o{0.8 * uniform(rng), 0.99, 1e-6 + 0.1 * uniform(rng), tf1 ? "tf1" : "torch"};
    std::vector<int64_t> offsets;
    std::vector<double> lr, decay;
    for (uint64_t s = 0, n = 1 + rng() % 4; s <= n; ++s) {
      offsets.push_back(static_cast<int64_t>(rng() % static_cast<uint64_t>(size + 1)));
    }
    std::sort(offsets.begin(), offsets.end());
    for (size_t s = 0; s + 1 < offsets.size(); ++s) {
      lr.push_back(uniform(rng)), decay.push_back(0.3 * uniform(rng));
    }
    const double scale = uniform(rng);
    const auto step = static_cast<int64_t>(1 + rng() % 5);
    Arena a{at::randn({size}, at::kDouble), at::randn({size}, at::kDouble),
            at::rand({size}, at::kDouble)};
    const Tensor grad = at::randn({size}, at::kDouble);
    const Arena want = a.clone();
    for (size_t s = 0; s + 1 < offsets.size(); ++s) {
      for (int64_t i = offsets[s]; i < offsets[s + 1]; ++i) {
        double &p = want.param.data_ptr<double>()[i], &m = want.m.data_ptr<double>()[i],
               &v = want.v.data_ptr<double>()[i];
        const double g = grad.data_ptr<double>()[i] * scale;
        m = o.beta1 * m + (1 - o.beta1) * g;
        v = o.beta2 * v + (1 - o.beta2) * g * g;
        const double fix1 = 1 - std::pow(o.beta1, step), fix2 = 1 - std::pow(o.beta2, step);
        p -= lr[s] * decay[s] * p;
        p -= tf1 ? lr[s] * std::sqrt(fix2) / fix1 * m / (std::sqrt(v) + o.eps)
                 : lr[s] * (m / fix1) / (std::sqrt(v / fix2) + o.eps);
      }
    }
    a.step(grad, offsets, lr, decay, scale, step, o);
    expect_close(a.param, want.param, 1e-9, 1e-9, std::to_string(round));
    expect_close(a.m, want.m, 1e-12);
    expect_close(a.v, want.v, 1e-12);
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(AdamW, ErrorsOfMixedPrecision) {
  const Tensor one = at::ones({}, at::kDouble), x = at::zeros({3});
  const auto step = [&](const Tensor& param, const Tensor& grad, const Tensor& rounded) {
    return [=] {
      adamw_step(param, grad, at::zeros_like(param), at::zeros_like(param), {0, 3},
                 std::vector<double>{0.1}, std::vector<double>{0.0}, one, 1, {}, rounded);
    };
  };
  const Tensor low = x.to(at::kBFloat16);
  expect_message(step(x, x, x), "adamw_step: rounded: expected BFloat16, got Float [3] on cpu");
  expect_message(step(x, x, at::zeros({4}, at::kBFloat16)),
                 "adamw_step: rounded: expected the sizes of param = [3], got BFloat16 [4]");
  expect_message(step(x, at::zeros({3, 2}, at::kBFloat16).select(1, 0), low),
                 "adamw_step: grad: expected contiguous memory");
  expect_message(step(x.to(at::kDouble), x.to(at::kDouble), low),
                 "adamw_step: param beside rounded: expected Float, got Double [3] on cpu");
}

TEST(Scale, MultipliesAnArenaInPlace) {
  const Tensor half = at::full({}, 0.3, at::kDouble);
  for (const auto type : {at::kDouble, at::kFloat, at::kBFloat16}) {
    for (const int64_t size : {0, 1, 1000, 200001}) {
      const Tensor x = at::randn({size}).to(type), before = x.clone();
      scale(x, half);
      const Tensor want = type == at::kBFloat16
                              ? (before.to(at::kFloat) * static_cast<float>(0.3)).to(at::kBFloat16)
                              : before * 0.3;
      EXPECT_TRUE(at::equal(x, want)) << type << " " << size;
    }
  }
  expect_message([&] { scale(at::zeros({2}, at::kInt), half); },
                 "scale: x: expected float32, float64 or bfloat16, got Int [2] on cpu");
  expect_message(
      [&] {
        scale(at::zeros({2, 2}).select(1, 0), half);
      },
      "scale: x: expected contiguous memory");
  expect_message([&] { scale(at::zeros({2}), at::ones({})); },
                 "scale: factor: expected Double, got Float [] on cpu");
  expect_message([&] { scale(at::zeros({2}), at::ones({2}, at::kDouble)); },
                 "scale: factor: expected one element, got Double [2] on cpu");
}

TEST(GradNorm, ReadsBfloat16AsItIs) {
  const Tensor x = at::randn({40000}).to(at::kBFloat16);
  EXPECT_NEAR(grad_norm(x).item<double>(), x.to(at::kDouble).norm().item<double>(), 1e-9);
}

}  // namespace
}  // namespace hone::kernels
