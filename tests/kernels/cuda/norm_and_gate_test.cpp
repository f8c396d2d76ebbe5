// rms_norm, swiglu and their gradients against plain double loops.

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/cuda/transformer_launchers.h"
#include "tests/kernels/cuda/device_run.h"
#include "tests/support/expect_close.h"

namespace hone::kernels {
namespace {

using at::Tensor;
using math::Bfloat16;
using test::expect_close;
using test::GlobalBuffer;

template <typename T>
constexpr at::ScalarType kTensorType = std::is_same_v<T, Bfloat16>
                                           ? at::kBFloat16
                                           : (std::is_same_v<T, float> ? at::kFloat : at::kDouble);

/// As on_device of device_run.h, with our bfloat16.
template <typename T>
GlobalBuffer<T> buffer(const Tensor& x, const std::string& name) {
  return GlobalBuffer<T>(static_cast<const T*>(x.const_data_ptr()), x.numel(), name);
}
template <typename T>
Tensor tensor(const GlobalBuffer<T>& x, at::IntArrayRef sizes) {
  Tensor out = at::empty(sizes, kTensorType<T>);
  const std::vector<T> held = x.host();
  if (!held.empty()) std::memcpy(out.data_ptr(), held.data(), held.size() * sizeof(T));
  return out.to(at::kDouble);
}

template <typename T>
class CudaNormAndGate : public ::testing::Test {
 protected:
  static constexpr auto kType = kTensorType<T>;
  // Of the result's own rounding, and of sums of a few thousand terms in the compute type.
  static constexpr double kTolerance =
      kType == at::kDouble ? 1e-13 : (kType == at::kFloat ? 2e-6 : 4e-3);

  static Tensor draw(at::IntArrayRef sizes) { return at::randn(sizes).to(kType); }
};
using Types = ::testing::Types<float, double, Bfloat16>;
TYPED_TEST_SUITE(CudaNormAndGate, Types);

constexpr double kEps = 1e-5;

/// d x and d weight of rms_norm from the definition, in double.
struct NormGradients {
  Tensor d_x, d_weight;

  NormGradients(const Tensor& grad, const Tensor& x, const Tensor& weight)
      : d_x(at::zeros(x.sizes(), at::kDouble)), d_weight(at::zeros(weight.sizes(), at::kDouble)) {
    const int64_t rows = x.size(0), width = x.size(1);
    const Tensor g = grad.to(at::kDouble), v = x.to(at::kDouble), w = weight.to(at::kDouble);
    const double *gp = g.const_data_ptr<double>(), *vp = v.const_data_ptr<double>(),
                 *wp = w.const_data_ptr<double>();
    for (int64_t i = 0; i < rows; ++i, gp += width, vp += width) {
      double squares = 0, through = 0;
      for (int64_t j = 0; j < width; ++j) {
        squares += vp[j] * vp[j];
        through += gp[j] * wp[j] * vp[j];
      }
      const double rms = std::sqrt(squares / width + kEps);
      for (int64_t j = 0; j < width; ++j) {
        d_x.data_ptr<double>()[i * width + j] =
            gp[j] * wp[j] / rms - vp[j] * through / (width * rms * rms * rms);
        d_weight.data_ptr<double>()[j] += gp[j] * vp[j] / rms;
      }
    }
  }
};

TYPED_TEST(CudaNormAndGate, RmsNorm) {
  using T = TypeParam;
  at::manual_seed(1);
  for (const int64_t rows : {0, 1, 3}) {
    for (const int64_t width : {1, 7, 31, 32, 33, 64, 1023, 1024, 1025, 4096, 4104, 8200}) {
      SCOPED_TRACE(std::to_string(rows) + " x " + std::to_string(width));
      if (rows > 1 && width > 4104) continue;
      const Tensor x = this->draw({rows, width}), weight = this->draw({width});
      const Tensor v = x.to(at::kDouble);
      const Tensor want = v * (v.square().mean(1, true) + kEps).rsqrt() * weight.to(at::kDouble);
      test::on_every_layout([&] {
        const auto xs = buffer<T>(x, "x"), w = buffer<T>(weight, "weight");
        const GlobalBuffer<T> y(rows * width, "y");
        const cuda::RmsNormArgs<T> args{xs.data(), w.data(), y.data(), rows, width, kEps};
        EXPECT_EQ(cuda::launch_rms_norm(args, nullptr), cudaSuccess);
        expect_close(tensor(y, {rows, width}), want, this->kTolerance, this->kTolerance);
      });
    }
  }
}

TYPED_TEST(CudaNormAndGate, RmsNormBackward) {
  using T = TypeParam;
  at::manual_seed(2);
  // 300 rows: more than there are blocks.
  for (const auto& [rows, width] : std::vector<std::pair<int64_t, int64_t>>{
           {0, 5},
           {1, 1},
           {3, 33},
           {2, 1023},
           {2, 2056},
           {300, 24},
           {265, 7},
           // A row of one warp, of blocks of every size, and in shared memory.
           {9, 512},
           {3, 1000},
           {3, 4096},
           {3, 8192},
           {2, 8200}}) {
    SCOPED_TRACE(std::to_string(rows) + " x " + std::to_string(width));
    const Tensor x = this->draw({rows, width}), weight = this->draw({width}),
                 grad = this->draw({rows, width});
    const NormGradients want(grad, x, weight);
    test::on_every_layout([&, rows = rows, width = width] {
      const auto xs = buffer<T>(x, "x"), w = buffer<T>(weight, "weight"),
                 g = buffer<T>(grad, "grad");
      const GlobalBuffer<T> d_x(rows * width, "d_x"), d_weight(width, "d_weight");
      const GlobalBuffer<math::Compute<T>> workspace(
          cuda::rms_norm_workspace_bytes<T>(rows, width) / sizeof(math::Compute<T>), "workspace");
      const cuda::RmsNormBackwardArgs<T> args{g.data(),   xs.data(),       w.data(),
                                              d_x.data(), d_weight.data(), workspace.data(),
                                              rows,       width,           kEps};
      EXPECT_EQ(cuda::launch_rms_norm_backward(args, nullptr), cudaSuccess);
      expect_close(tensor(d_x, {rows, width}), want.d_x, 4 * this->kTolerance, 4 * this->kTolerance,
                   "d_x");
      expect_close(tensor(d_weight, {width}), want.d_weight,
                   this->kTolerance * std::sqrt(rows + 1.0) * 4, 2 * this->kTolerance, "d_weight");
    });
  }
}

TYPED_TEST(CudaNormAndGate, RowsTooWideForSharedMemoryAreRefused) {
  using T = TypeParam;
  cuda::RmsNormBackwardArgs<T> args{};
  args.rows = 1;
  args.width = cuda::rms_norm_max_width<T>() + 1;
  EXPECT_EQ(cuda::launch_rms_norm_backward(args, nullptr), cudaErrorInvalidValue);
}

TYPED_TEST(CudaNormAndGate, Swiglu) {
  using T = TypeParam;
  at::manual_seed(3);
  for (const int64_t rows : {0, 1, 5}) {
    for (const int64_t width : {1, 7, 31, 32, 33, 511, 512, 1023, 1032}) {
      SCOPED_TRACE(std::to_string(rows) + " x " + std::to_string(width));
      const Tensor x = this->draw({rows, 2 * width}), grad = this->draw({rows, width});
      const Tensor gate = x.to(at::kDouble).narrow(1, 0, width),
                   up = x.to(at::kDouble).narrow(1, width, width), g = grad.to(at::kDouble);
      const Tensor s = 1 / (1 + (-gate).exp());
      const Tensor want = gate * s * up;
      const Tensor want_grad = at::cat({g * up * (s + gate * s * (1 - s)), g * gate * s}, 1);
      test::on_every_layout([&] {
        const auto xs = buffer<T>(x, "x"), gs = buffer<T>(grad, "grad");
        const GlobalBuffer<T> y(rows * width, "y"), d_x(2 * rows * width, "d_x");
        EXPECT_EQ(cuda::launch_swiglu<T>({xs.data(), y.data(), rows, width}, nullptr), cudaSuccess);
        EXPECT_EQ(cuda::launch_swiglu_backward<T>({gs.data(), xs.data(), d_x.data(), rows, width},
                                                  nullptr),
                  cudaSuccess);
        expect_close(tensor(y, {rows, width}), want, this->kTolerance, this->kTolerance, "y");
        expect_close(tensor(d_x, {rows, 2 * width}), want_grad, this->kTolerance, this->kTolerance,
                     "d_x");
      });
    }
  }
}

/// Gates that overflow the exponential: silu of -1e4 is 0, of 1e4 the gate itself.
TYPED_TEST(CudaNormAndGate, SwigluOfExtremeGates) {
  using T = TypeParam;
  const Tensor x = at::tensor({-1e4, 1e4, 2.0, 3.0}).to(kTensorType<T>).reshape({1, 4});
  const auto xs = buffer<T>(x, "x");
  const GlobalBuffer<T> y(2, "y");
  EXPECT_EQ(cuda::launch_swiglu<T>({xs.data(), y.data(), 1, 2}, nullptr), cudaSuccess);
  expect_close(tensor(y, {2}), at::tensor({0.0, 3e4}, at::kDouble), 0.0, this->kTolerance);
}

}  // namespace
}  // namespace hone::kernels
