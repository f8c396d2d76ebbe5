// The sampling kernel against the CPU op: the same tokens for the same keys.

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/cuda/model_launchers.h"
#include "kernels/ops.h"
#include "tests/kernels/cuda/device_run.h"
#include "tests/kernels/cuda/elements.h"
#include "tests/support/expect_close.h"

namespace hone::kernels {
namespace {

using test::expect_close;
using test::from_device;
using test::GlobalBuffer;
using test::on_device;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

Tensor keys_of(int64_t rows) {
  const Tensor i = at::arange(rows, at::kLong);
  return at::stack({i * 1000003, i % 3, 4096 - i}, 1);
}

/// `logits` in T; with bfloat16 they are rounded before both sides see them.
template <typename T>
void expect_cpu_op(const Tensor& logits, const SampleOptions& o, double tolerance) {
  using C = math::Compute<T>;
  const int64_t rows = logits.size(0), size = logits.size(1);
  const Tensor keys = keys_of(rows), wide = logits.to(at::kDouble).contiguous();
  const std::vector<double> values(wide.data_ptr<double>(), wide.data_ptr<double>() + wide.numel());
  // In double, so that a token at the edge of rounding does not depend on the CPU's.
  const Sampled want = sample(wide, keys, 42, o);
  test::on_every_layout([&] {
    const GlobalBuffer<T> in(test::elements<T>(values), "logits");
    const auto key = on_device<int64_t>(keys, "keys");
    const auto n = static_cast<size_t>(rows);
    const GlobalBuffer<int64_t> tokens(n, "tokens");
    const GlobalBuffer<C> logprobs(n, "logprobs"), raw(n, "raw_logprobs"), entropy(n, "entropy");
    const cuda::SampleArgs<T> args{in.data(),  key.data(),    rows,          size,
                                   42,         o.temperature, tokens.data(), logprobs.data(),
                                   raw.data(), entropy.data()};
    EXPECT_EQ(o.top_k > 0 || o.top_p < 1 || o.min_p > 0
                  ? cuda::launch_sample_filtered<T>({args, o.top_k, o.top_p, o.min_p}, nullptr)
                  : cuda::launch_sample(args, nullptr),
              cudaSuccess);
    EXPECT_TRUE(at::equal(from_device(tokens), want.tokens)) << from_device(tokens) << want.tokens;
    const auto close = [&](const GlobalBuffer<C>& got, const Tensor& wanted, const char* what) {
      expect_close(from_device(got), wanted, tolerance, tolerance, what);
    };
    close(logprobs, want.logprobs, "logprobs");
    close(raw, want.raw_logprobs, "raw_logprobs");
    close(entropy, want.entropy, "entropy");
  });
}

/// Sizes about the edges of vectors (2, 4, 8), chunks (256), warps' turns (2048) and threads' runs
/// of chunks (65536).
const int64_t kSizes[] = {1, 2, 7, 31, 33, 255, 256, 257, 1000, 2047, 2049, 65539};

TEST(CudaSample, IsTheCpuOp) {
  at::manual_seed(1);
  for (const int64_t size : kSizes) {
    const bool large = size > 1100;
    const Tensor logits = at::randn({large ? 1 : 5, size}, at::kDouble) * 3;
    for (const double temperature : {1.0, 0.0, 0.6}) {
      SCOPED_TRACE("size " + std::to_string(size) + ", temperature " + std::to_string(temperature));
      if (size < 60000) expect_cpu_op<double>(logits, {temperature}, 1e-11);
      if (!large || temperature == 0.6)
        expect_cpu_op<float>(logits.to(at::kFloat), {temperature}, 2e-5);
      if (!large) expect_cpu_op<math::Bfloat16>(logits.to(at::kBFloat16), {temperature}, 2e-5);
      if (::testing::Test::HasFailure()) return;
    }
  }
}

/// Ids ruled out, whole chunks of them too; ties; a common offset; nearly all weight on one id.
TEST(CudaSample, IsTheCpuOpOnOddRows) {
  at::manual_seed(2);
  Tensor logits = at::randn({8, 1500}, at::kDouble);
  logits.slice(0, 0, 4).slice(1, 100, 900).fill_(-kInfinity);
  logits[1].fill_(-kInfinity)[1499] = 3;
  logits[2].fill_(0.5);
  logits[3] += 20000;
  logits[4][700] = 60;
  logits[5][0] = logits[5][1299] = logits[5].max();
  for (const double temperature : {1.0, 0.0, 2.5})
    expect_cpu_op<double>(logits, {temperature}, 1e-11);
}

const SampleOptions kTopK{0.7, 20, 1.0, 0.0}, kTopP{1.0, 0, 0.9, 0.0},
    kAllFilters{1.2, 90, 0.8, 0.02};

TEST(CudaSampleFiltered, IsTheCpuOp) {
  at::manual_seed(3);
  const Tensor logits = at::randn({2, 1000}, at::kDouble) * 3;
  for (const SampleOptions& o : {kTopK, kTopP, kAllFilters, SampleOptions{1.0, 1, 1.0, 0.0},
                                 SampleOptions{1.0, 0, 1.0, 0.05}, SampleOptions{1.0, 0, 1e-9}}) {
    expect_cpu_op<math::Bfloat16>(logits.to(at::kBFloat16), o, 2e-5);
  }
  expect_cpu_op<double>(logits, kAllFilters, 1e-7);
  expect_cpu_op<float>(logits.to(at::kFloat), kTopP, 2e-5);
  for (const int64_t size : {1, 7, 33}) {
    expect_cpu_op<float>(at::randn({1, size}, at::kFloat), kAllFilters, 2e-5);
  }
  // More than a block holds in shared memory.
  expect_cpu_op<double>(at::randn({1, 27000}, at::kDouble) * 3, {1.0, 2000, 0.9}, 1e-7);
}

/// Ties at every edge, ids ruled out, zeros of either sign, all weight on one id.
TEST(CudaSampleFiltered, IsTheCpuOpOnOddRows) {
  at::manual_seed(4);
  Tensor logits = at::randn({7, 500}, at::kDouble);
  logits.slice(0, 0, 4).slice(1, 30, 300).fill_(-kInfinity);
  logits[1].fill_(-kInfinity)[499] = 3;
  logits[2].fill_(0.5);
  logits[3] += 20000;
  logits[4][200] = 60;
  logits[5] = (logits[5] * 2).round().clamp_max(0);
  logits[5].slice(0, 0, 500, 2).mul_(-0.0);
  logits[6] = at::arange(500, at::kDouble).remainder(3);
  expect_cpu_op<double>(logits, kTopP, 1e-7);
  expect_cpu_op<double>(logits.slice(0, 2), kAllFilters, 1e-7);
  expect_cpu_op<double>(logits.slice(0, 5), kTopK, 1e-7);
}

TEST(CudaSample, RowsWithoutADistributionAreNan) {
  Tensor logits = at::zeros({3, 300}, at::kDouble);
  logits[0][299] = std::nan("");
  logits[1].fill_(-kInfinity);
  const Tensor keys = keys_of(3);
  test::on_every_layout([&] {
    const auto in = on_device<double>(logits, "logits");
    const auto key = on_device<int64_t>(keys, "keys");
    const GlobalBuffer<int64_t> tokens(3, "tokens");
    const GlobalBuffer<double> logprobs(3, "logprobs"), raw(3, "raw"), entropy(3, "entropy");
    const cuda::SampleArgs<double> args{
        in.data(),     key.data(),      3,          300,           1, 1.0,
        tokens.data(), logprobs.data(), raw.data(), entropy.data()};
    for (const bool filtered : {false, true}) {
      EXPECT_EQ(filtered ? cuda::launch_sample_filtered<double>({args, 5, 0.9, 0.01}, nullptr)
                         : cuda::launch_sample(args, nullptr),
                cudaSuccess);
      const Tensor got = from_device(logprobs);
      EXPECT_TRUE(got[0].isnan().item<bool>() && got[1].isnan().item<bool>());
      EXPECT_FALSE(got[2].isnan().item<bool>());
      EXPECT_EQ(tokens.host()[0], 0);
      EXPECT_EQ(tokens.host()[1], 0);
    }
  });
}

}  // namespace
}  // namespace hone::kernels
