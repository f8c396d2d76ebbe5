// adamw_step, grad_norm and scale on arenas against plain double loops.

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "kernels/cuda/model_launchers.h"
#include "tests/kernels/cuda/device_run.h"
#include "tests/kernels/cuda/elements.h"

namespace hone::kernels {
namespace {

using math::Bfloat16;
using test::elements;
using test::expect_near;
using test::GlobalBuffer;
using test::widened;

std::vector<double> draw(int64_t n, unsigned seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<double> normal;
  std::vector<double> x(n);
  for (double& value : x) value = normal(rng);
  return x;
}

/// Types of the arena and of the gradient.
template <typename Types>
class CudaAdamW : public ::testing::Test {};
using Arenas = ::testing::Types<std::pair<float, float>, std::pair<double, double>,
                                std::pair<float, Bfloat16>>;
TYPED_TEST_SUITE(CudaAdamW, Arenas);

TYPED_TEST(CudaAdamW, SlicesFollowTheAlgorithm) {
  using T = typename TypeParam::first_type;
  using G = typename TypeParam::second_type;
  const double tolerance = sizeof(T) == 8 ? 1e-13 : 2e-6;
  constexpr int64_t kSize = 5003;
  constexpr double kScale = 0.5, kBeta1 = 0.9, kBeta2 = 0.95, kEps = 1e-8;
  constexpr int64_t kStep = 3;
  struct Cut {
    std::vector<int64_t> offsets;
    std::vector<double> lr, decay;
  };
  // One slice; empty slices and slices within a vector; many slices in one block; nothing at all.
  std::vector<Cut> cuts{
      {{0, kSize}, {1e-2}, {0.1}},
      {{5, 12, 12, 12, 4001, 4990}, {1e-2, 1.0, 2.0, 3e-3, 1e-3}, {0.1, 0.5, 0, 0, 0.01}},
      {{7, 7}, {1.0}, {0.0}}};
  cuts.push_back({{}, {}, {}});
  for (int64_t i = 0; i <= 300; ++i) cuts.back().offsets.push_back(1000 + 3 * i);
  for (int64_t i = 0; i < 300; ++i) {
    cuts.back().lr.push_back(1e-3 * (i % 7));
    cuts.back().decay.push_back(0.01 * (i % 5));
  }
  for (const Cut& cut : cuts) {
    for (const bool tf1 : {false, true}) {
      SCOPED_TRACE(std::to_string(cut.lr.size()) + " slices");
      const auto param = elements<T>(draw(kSize, 1)), m = elements<T>(draw(kSize, 2));
      const auto grad = elements<G>(draw(kSize, 3));
      std::vector<T> v = elements<T>(draw(kSize, 4));
      for (T& x : v) x = std::fabs(x);
      std::vector<double> want_p = widened(param), want_m = widened(m), want_v = widened(v);
      std::vector<math::AdamWCoefficients<T>> coefficients;
      for (size_t s = 0; s < cut.lr.size(); ++s) {
        coefficients.push_back(
            math::adamw_coefficients<T>(cut.lr[s], cut.decay[s], kBeta1, kBeta2, kEps, kStep, tf1));
        const double correction1 = 1 - std::pow(kBeta1, kStep);
        const double correction2 = 1 - std::pow(kBeta2, kStep);
        for (int64_t i = cut.offsets[s]; i < cut.offsets[s + 1]; ++i) {
          const double g = kScale * math::widen(grad[i]);
          want_m[i] = kBeta1 * want_m[i] + (1 - kBeta1) * g;
          want_v[i] = kBeta2 * want_v[i] + (1 - kBeta2) * g * g;
          want_p[i] *= 1 - cut.lr[s] * cut.decay[s];
          want_p[i] -= tf1 ? cut.lr[s] * std::sqrt(correction2) / correction1 * want_m[i] /
                                 (std::sqrt(want_v[i]) + kEps)
                           : cut.lr[s] * (want_m[i] / correction1) /
                                 (std::sqrt(want_v[i] / correction2) + kEps);
        }
      }
      test::on_every_layout([&] {
        const GlobalBuffer<T> p(param, "param"), first(m, "m"), second(v, "v");
        const GlobalBuffer<G> g(grad, "grad");
        const GlobalBuffer<Bfloat16> rounded(kSize, "rounded");
        const GlobalBuffer<int64_t> offsets(cut.offsets, "offsets");
        const GlobalBuffer<math::AdamWCoefficients<T>> c(coefficients, "coefficients");
        const GlobalBuffer<double> scale(std::vector<double>{kScale}, "grad_scale");
        const bool keeps = sizeof(T) == sizeof(float);
        const cuda::AdamWArgs<T, G> args{{p.data(), g.data(), first.data(), second.data(),
                                          keeps ? rounded.data() : nullptr, kSize},
                                         offsets.data(),
                                         c.data(),
                                         static_cast<int64_t>(cut.lr.size()),
                                         cut.offsets.front(),
                                         cut.offsets.back(),
                                         scale.data()};
        EXPECT_EQ(cuda::launch_adamw(args, nullptr), cudaSuccess);
        expect_near(widened(p.host()), want_p, tolerance, "param");
        expect_near(widened(first.host()), want_m, tolerance, "m");
        expect_near(widened(second.host()), want_v, tolerance, "v");
        if (!keeps) return;
        const std::vector<T> now = p.host();
        const std::vector<Bfloat16> copy = rounded.host();
        for (int64_t i = cut.offsets.front(); i < cut.offsets.back(); ++i) {
          Bfloat16 want;
          math::narrow(static_cast<float>(now[i]), want);
          ASSERT_EQ(copy[i].bits, want.bits) << i;
        }
      });
    }
  }
}

template <typename T>
class CudaGradient : public ::testing::Test {};
using Types = ::testing::Types<float, double, Bfloat16>;
TYPED_TEST_SUITE(CudaGradient, Types);

TYPED_TEST(CudaGradient, Norm) {
  using T = TypeParam;
  // More than one element a thread of all blocks: 1056 * 256 of them.
  for (const int64_t n : {0, 1, 31, 32, 33, 1023, 20000, 300001}) {
    if (n > 100000 && sizeof(T) != sizeof(float)) continue;  // as for float, and it takes a second
    SCOPED_TRACE(n);
    const auto x = elements<T>(draw(n, 5));
    double squares = 0;
    for (const double value : widened(x)) squares += value * value;
    const auto run = [&] {
      const GlobalBuffer<T> grad(x, "grad");
      const GlobalBuffer<double> norm(1, "norm"),
          workspace(cuda::grad_norm_workspace_bytes() / sizeof(double), "workspace");
      EXPECT_EQ(cuda::launch_grad_norm(grad.data(), n, norm.data(), workspace.data(), nullptr),
                cudaSuccess);
      expect_near(norm.host(), {std::sqrt(squares)}, 1e-12, "norm");
    };
    n < 100000 ? test::on_every_layout(run) : run();
  }
}

TYPED_TEST(CudaGradient, Scale) {
  using T = TypeParam;
  for (const int64_t n : {0, 1, 31, 33, 1023, 5001}) {
    const auto x = elements<T>(draw(n, 6));
    std::vector<double> want = widened(x);
    for (double& value : want) value *= 0.25;  // exact in every type
    test::on_every_layout([&] {
      const GlobalBuffer<T> grad(x, "grad");
      const GlobalBuffer<double> factor(std::vector<double>{0.25}, "factor");
      EXPECT_EQ(cuda::launch_scale(grad.data(), n, factor.data(), nullptr), cudaSuccess);
      expect_near(widened(grad.host()), want, 0.0, "grad");
    });
  }
}

}  // namespace
}  // namespace hone::kernels
