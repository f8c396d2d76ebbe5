// Philox against its authors' known answers, and dropout, whose mask is a function of it.

#include "kernels/math/philox.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <vector>

#include "kernels/ops.h"
#include "tests/kernels/expect_message.h"
#include "tests/kernels/same_bits.h"
#include "tests/support/expect_close.h"

namespace hone::kernels {
namespace {

// kat_vectors of Random123: philox4x32, 10 rounds.
TEST(Philox, KnownAnswers) {
  const auto expect = [](math::PhiloxBlock counter, uint32_t key0, uint32_t key1,
                         math::PhiloxBlock want) {
    const math::PhiloxBlock got = math::philox4x32(counter, key0, key1);
    for (int i = 0; i < 4; ++i) EXPECT_EQ(got.word[i], want.word[i]) << i;
  };
  expect({{0, 0, 0, 0}}, 0, 0, {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}});
  expect({{~0u, ~0u, ~0u, ~0u}}, ~0u, ~0u, {{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}});
  expect({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, 0xa4093822, 0x299f31d0,
         {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}});
}

TEST(Philox, UniformsFillTheUnitInterval) {
  constexpr int kDraws = 100000;
  double sum = 0, squares = 0, least = 1, most = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double u = math::sample_uniform(12, i, 1, 2);
    sum += u;
    squares += u * u;
    least = std::min(least, u);
    most = std::max(most, u);
  }
  EXPECT_GE(least, 0.0);
  EXPECT_LT(most, 1.0);
  EXPECT_NEAR(sum / kDraws, 0.5, 5 * std::sqrt(1.0 / 12 / kDraws));
  EXPECT_NEAR(squares / kDraws, 1.0 / 3, 5 * std::sqrt(4.0 / 45 / kDraws));
}

TEST(Dropout, MaskIsTheFunctionOfSeedAndElement) {
  for (const auto type : {at::kFloat, at::kDouble}) {
    for (const int64_t size : {0, 1, 3, 127, 128, 129, 8191, 20000}) {
      const Tensor out = kernels::dropout(at::ones({size}, type), 0.3, -5);
      for (int64_t i = 0; i<size; i += size> 1000 ? 97 : 1) {
        const uint32_t draw = math::dropout_block(-5, i / 4).word[i % 4];
        const double want = draw / 4294967296.0 < 0.3 ? 0.0 : 1 / 0.7;
        EXPECT_NEAR(out[i].item<double>(), want, 1e-6) << i << " of " << size;
      }
    }
  }
}

TEST(Dropout, DropsTheAskedShareAndKeepsTheMean) {
  const Tensor out = kernels::dropout(at::ones({400, 1000}, at::kFloat), 0.1, 3);
  EXPECT_NEAR((out == 0).to(at::kDouble).mean().item<double>(), 0.1, 5 * std::sqrt(0.09 / 4e5));
  EXPECT_FALSE(at::equal(out, kernels::dropout(at::ones({400, 1000}, at::kFloat), 0.1, 4)));
}

TEST(Dropout, GradientUsesTheSameMask) {
  const Tensor x = at::randn({33, 7}, at::kDouble).requires_grad_(true);
  const Tensor upstream = at::randn({33, 7}, at::kDouble);
  const Tensor out = kernels::dropout(x, 0.5, 8);
  (out * upstream).sum().backward();
  test::expect_close(x.grad(), upstream * (out != 0) * 2, 0, 0, "gradient");
}

TEST(Dropout, ZeroIsIdentityAndBadProbabilitiesAreErrors) {
  const Tensor x = at::randn({5, 4}, at::kFloat);
  EXPECT_TRUE(at::equal(kernels::dropout(x, 0.0, 1), x));
  test::expect_message([&] { kernels::dropout(x, 1.0, 1); },
                       "dropout: p: expected a number in [0, 1), got 1");
  test::expect_message([&] { kernels::dropout(x, -0.1, 1); },
                       "dropout: p: expected a number in [0, 1), got -0.1");
}

TEST(Dropout, SameBitsOnAnyThreads) {
  const Tensor x = at::randn({40000}, at::kFloat);
  test::expect_same_bits_on_any_threads(
      [&] { return std::vector<Tensor>{kernels::dropout(x, 0.2, 1)}; }, "dropout");
}

}  // namespace
}  // namespace hone::kernels
