// Dropout against the CPU op: the same bits.

#include "kernels/math/philox.h"

#include <gtest/gtest.h>

#include "kernels/cuda/model_launchers.h"
#include "kernels/ops.h"
#include "tests/kernels/cuda/device_run.h"

namespace hone::kernels {
namespace {

using test::from_device;
using test::GlobalBuffer;
using test::on_device;

template <typename T>
class CudaDropout : public ::testing::Test {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(CudaDropout, Types);

TYPED_TEST(CudaDropout, IsTheCpuOpBitForBit) {
  using T = TypeParam;
  at::manual_seed(1);
  for (const int64_t n : {0, 1, 3, 4, 5, 31, 32, 33, 1023, 1024, 1025, 4097}) {
    for (const double p : {0.0, 0.3, 0.999}) {
      for (const int64_t seed : {int64_t{0}, int64_t{-7}, int64_t{1} << 40}) {
        SCOPED_TRACE("n " + std::to_string(n) + ", p " + std::to_string(p));
        const Tensor x = at::randn({n}, c10::CppTypeToScalarType<T>::value);
        const Tensor want = dropout(x, p, seed);
        test::on_every_layout([&] {
          const auto in = on_device<T>(x, "x");
          const GlobalBuffer<T> out(n, "y");
          const cuda::DropoutArgs<T> args{in.data(),
                                          out.data(),
                                          n,
                                          seed,
                                          math::dropout_threshold(p),
                                          static_cast<T>(1.0 / (1.0 - p))};
          EXPECT_EQ(cuda::launch_dropout(args, nullptr), cudaSuccess);
          EXPECT_TRUE(at::equal(from_device(out), want));
        });
      }
    }
  }
}

}  // namespace
}  // namespace hone::kernels
