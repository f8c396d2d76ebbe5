// The value loss kernel against the CPU op.

#include <gtest/gtest.h>

#include "kernels/cuda/loss_launchers.h"
#include "kernels/ops.h"
#include "tests/kernels/cuda/device_run.h"
#include "tests/support/expect_close.h"

namespace hone::kernels {
namespace {

using test::expect_close;
using test::from_device;
using test::GlobalBuffer;
using test::on_device;

template <typename T>
class CudaValueLoss : public ::testing::Test {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(CudaValueLoss, Types);

TYPED_TEST(CudaValueLoss, IsTheCpuOp) {
  using T = TypeParam;
  constexpr auto kType = c10::CppTypeToScalarType<T>::value;
  at::manual_seed(1);
  const double tolerance = kType == at::kFloat ? 1e-6 : 1e-14;
  for (const int64_t n : {0, 1, 31, 32, 33, 255, 257, 1023, 5000}) {
    for (const double clip : {0.0, 0.2}) {
      SCOPED_TRACE("n " + std::to_string(n) + ", clip " + std::to_string(clip));
      const auto options = at::TensorOptions().dtype(kType);
      const Tensor values = at::randn({n}, options).requires_grad_(true);
      const Tensor old = values.detach() + 0.3 * at::randn({n}, options);
      const Tensor returns = at::randn({n}, options);
      const Tensor weights = at::rand({n}, options) * (at::rand({n}) < 0.8) / (n + 1);
      const auto [loss, metrics] = value_loss(values, old, returns, weights, clip);
      loss.backward();
      test::on_every_layout([&] {
        const auto v = on_device<T>(values.detach(), "values"), o = on_device<T>(old, "values_old"),
                   r = on_device<T>(returns, "returns"), w = on_device<T>(weights, "weights");
        const GlobalBuffer<T> got_loss(1, "loss"), grad(n, "grad");
        const GlobalBuffer<double> got_metrics(2, "metrics"),
            workspace(cuda::sum_workspace_bytes() / sizeof(double), "workspace");
        const cuda::ValueLossArgs<T> args{v.data(),
                                          o.data(),
                                          r.data(),
                                          w.data(),
                                          got_loss.data(),
                                          got_metrics.data(),
                                          grad.data(),
                                          n,
                                          static_cast<T>(clip),
                                          workspace.data()};
        EXPECT_EQ(cuda::launch_value_loss(args, nullptr), cudaSuccess);
        expect_close(from_device(got_loss)[0], loss.detach(), tolerance, tolerance, "loss");
        expect_close(from_device(got_metrics), metrics, tolerance, tolerance, "metrics");
        expect_close(from_device(grad), values.grad(), tolerance, tolerance, "grad");
      });
    }
  }
}

}  // namespace
}  // namespace hone::kernels
