// grad_norm, scale and dropout against plain loops on 10,000 random shapes each. The judge of
// dropout has a Philox of its own, written from the paper's definition.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <random>
#include <vector>

#include "kernels/ops.h"

namespace hone::kernels {
namespace {

constexpr int kRounds = 10000;

class Random {
 public:
  int64_t below(int64_t n) { return static_cast<int64_t>(rng_() % static_cast<uint64_t>(n)); }

  at::ScalarType type() { return std::array{at::kDouble, at::kFloat, at::kBFloat16}[below(3)]; }
  /// Of up to three dimensions, of which any may be 0; now and then a long one.
  std::vector<int64_t> sizes() {
    if (below(100) == 0) return {below(40000)};
    std::vector<int64_t> out;
    for (int64_t dims = 1 + below(3); dims > 0; --dims) out.push_back(below(9));
    return out;
  }
  Tensor tensor(at::IntArrayRef sizes, at::ScalarType type) {
    const Tensor x = at::empty(sizes, at::kDouble);
    for (int64_t i = 0; i < x.numel(); ++i) x.data_ptr<double>()[i] = normal_(rng_);
    return x.to(type);
  }

 private:
  std::mt19937_64 rng_{7};
  std::normal_distribution<double> normal_;
};

std::vector<double> values(const Tensor& x) {
  const Tensor wide = x.to(at::kDouble).contiguous();
  return {wide.data_ptr<double>(), wide.data_ptr<double>() + wide.numel()};
}

TEST(ArenaOps, GradNormIsTheRootOfTheSumOfSquaresOnTenThousandRandomShapes) {
  Random random;
  for (int round = 0; round < kRounds; ++round) {
    Tensor x = random.tensor(random.sizes(), random.type());
    if (x.dim() == 2 && random.below(2) == 0) x = x.t();
    long double squares = 0;
    for (const double v : values(x)) squares += static_cast<long double>(v) * v;
    const double want = static_cast<double>(std::sqrt(squares));
    ASSERT_NEAR(grad_norm(x).item<double>(), want, 1e-13 * (1 + want)) << x.sizes();
  }
}

TEST(ArenaOps, ScaleIsOneRoundedProductOnTenThousandRandomShapes) {
  Random random;
  for (int round = 0; round < kRounds; ++round) {
    const Tensor x = random.tensor(random.sizes(), random.type());
    const Tensor factor = random.tensor({}, at::kDouble);
    const double by = factor.item<double>();
    std::vector<double> want = values(x);
    for (double& v : want) {
      if (x.scalar_type() == at::kDouble) {
        v *= by;
      } else {
        const float product = static_cast<float>(v) * static_cast<float>(by);
        v = x.scalar_type() == at::kFloat ? product : static_cast<float>(c10::BFloat16(product));
      }
    }
    scale(x, factor);
    ASSERT_EQ(values(x), want) << x.scalar_type() << " " << x.sizes();
  }
}

/// Philox4x32-10: ten rounds of two 32x32-bit products, the key bumped by the Weyl constants.
std::array<uint32_t, 4> philox(std::array<uint32_t, 4> x, uint64_t seed) {
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53} * x[0], b = uint64_t{0xCD9E8D57} * x[2];
    x = {static_cast<uint32_t>(b >> 32) ^ x[1] ^ k0, static_cast<uint32_t>(b),
         static_cast<uint32_t>(a >> 32) ^ x[3] ^ k1, static_cast<uint32_t>(a)};
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  return x;
}

TEST(ArenaOps, DropoutKeepsAndScalesByTheCounterOnTenThousandRandomShapes) {
  Random random;
  for (int round = 0; round < kRounds; ++round) {
    const Tensor x = random.tensor(random.sizes(), random.type());
    const double p = static_cast<double>(random.below(1000)) / 1000;
    const int64_t seed = random.below(int64_t{1} << 62) - (int64_t{1} << 61);
    std::vector<double> want = values(x);
    const auto least = static_cast<uint64_t>(p * 4294967296.0);
    for (size_t i = 0; i < want.size(); ++i) {
      const auto block = static_cast<uint64_t>(i / 4);
      const auto draw =
          philox({static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), 0, 0xFFFFFFFF},
                 static_cast<uint64_t>(seed));
      const double keep = 1 / (1 - p);
      if (draw[i % 4] < least) {
        want[i] = 0;
      } else if (x.scalar_type() == at::kDouble) {
        want[i] *= keep;
      } else {
        const float kept = static_cast<float>(want[i]) * static_cast<float>(keep);
        want[i] = x.scalar_type() == at::kFloat ? kept : static_cast<float>(c10::BFloat16(kept));
      }
    }
    const Tensor got = dropout(x, p, seed);
    ASSERT_EQ(got.sizes(), x.sizes());
    ASSERT_EQ(values(got), want) << x.scalar_type() << " " << x.sizes() << " p " << p;
  }
}

}  // namespace
}  // namespace hone::kernels
