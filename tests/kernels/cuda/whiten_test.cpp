// Moments, whitening and group advantages as kernels against the CPU ops.

#include <gtest/gtest.h>

#include <random>

#include "kernels/cuda/launchers.h"
#include "kernels/ops.h"
#include "kernels/options.h"
#include "tests/kernels/cuda/device_run.h"
#include "tests/support/expect_close.h"

namespace hone::kernels {
namespace {

using test::expect_close;
using test::from_device;
using test::GlobalBuffer;
using test::on_device;

template <typename T>
class CudaWhiten : public ::testing::Test {
 protected:
  static constexpr auto kType = c10::CppTypeToScalarType<T>::value;
  static constexpr double kTolerance = sizeof(T) == 4 ? 1e-6 : 1e-12;
};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(CudaWhiten, Types);

TYPED_TEST(CudaWhiten, MomentsThenWhitenAreTheCpuOps) {
  using T = TypeParam;
  at::manual_seed(1);
  for (const int64_t n : {0, 1, 31, 33, 257, 5000}) {
    for (const bool masked : {false, true}) {
      SCOPED_TRACE(n);
      const Tensor x = at::randn({n}, at::TensorOptions().dtype(this->kType)) + 3;
      const Tensor mask = (at::rand({n}) < 0.6).to(at::kByte);
      const Tensor stats = moments(x, masked ? OptionalTensor(mask) : std::nullopt);
      const Tensor want = whiten(x, stats, masked, !masked);
      test::on_every_layout([&] {
        const auto in = on_device<T>(x, "x");
        const auto kept = on_device<uint8_t>(mask, "mask");
        const GlobalBuffer<double> got(4, "stats"),
            workspace(cuda::sum_workspace_bytes() / sizeof(double), "workspace");
        EXPECT_EQ(cuda::launch_moments<T>(
                      {in.data(), masked ? kept.data() : nullptr, got.data(), n, workspace.data()},
                      nullptr),
                  cudaSuccess);
        expect_close(from_device(got), stats, 1e-11, 1e-12, "moments");
        const GlobalBuffer<T> out(static_cast<size_t>(n), "out");
        EXPECT_EQ(cuda::launch_whiten<T>({in.data(), got.data(), out.data(), n, masked, !masked},
                                         nullptr),
                  cudaSuccess);
        expect_close(from_device(out), want, this->kTolerance, this->kTolerance, "whiten");
      });
    }
  }
}

TYPED_TEST(CudaWhiten, GroupAdvantagesAreTheCpuOp) {
  using T = TypeParam;
  std::mt19937 rng(2);
  for (const char* kind :
       {"grpo", "dr_grpo", "rloo", "grpo_loo", "reinforce_pp", "reinforce_pp_baseline"}) {
    for (const bool ragged : {false, true}) {
      SCOPED_TRACE(kind);
      const int64_t groups = 300, size = 5;
      std::vector<int64_t> cu = {0};
      while (static_cast<int64_t>(cu.size()) <= groups) {
        cu.push_back(cu.back() + (ragged ? static_cast<int64_t>(rng() % 9) : size));
      }
      const int64_t n = cu.back();
      const Tensor scores = at::randn({n}, at::TensorOptions().dtype(this->kType)) + 2;
      const Tensor counts = at::randint(0, 9, {n}, at::kLong), offsets = at::tensor(cu, at::kLong);
      const GroupAdvantageOptions o{.kind = kind, .singletons = ragged ? "raw" : "zero"};
      const Tensor want = group_advantages(scores, ragged ? 0 : size, o,
                                           ragged ? OptionalTensor(offsets) : std::nullopt,
                                           ragged ? OptionalTensor(counts) : std::nullopt);
      const auto params = group_params(o.kind, o.eps, o.unbiased, o.singletons);
      test::on_every_layout([&] {
        const auto in = on_device<T>(scores, "scores");
        const auto cu_groups = on_device<int64_t>(offsets, "cu_groups"),
                   token_counts = on_device<int64_t>(counts, "token_counts");
        const GlobalBuffer<T> out(static_cast<size_t>(n), "out");
        const GlobalBuffer<double> workspace(
            cuda::group_workspace_bytes(params, n) / sizeof(double), "workspace");
        const cuda::GroupAdvantageArgs<T> args{in.data(),
                                               ragged ? cu_groups.data() : nullptr,
                                               ragged ? token_counts.data() : nullptr,
                                               out.data(),
                                               n,
                                               groups,
                                               ragged ? 0 : size,
                                               params,
                                               workspace.data()};
        EXPECT_EQ(cuda::launch_group_advantages(args, nullptr), cudaSuccess);
        expect_close(from_device(out), want, this->kTolerance, this->kTolerance, kind);
      });
    }
  }
}

}  // namespace
}  // namespace hone::kernels
