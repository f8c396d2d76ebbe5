// rms_norm and swiglu against their formulas in double.

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <vector>

#include "kernels/ops.h"
#include "tests/kernels/expect_message.h"
#include "tests/kernels/finite_difference.h"
#include "tests/kernels/same_bits.h"

namespace hone::kernels {
namespace {

using test::expect_close;
using test::expect_gradient;
using test::expect_message;

// About vectors (8, 16), pairs of them, and the blocks of 128 rows.
const std::vector<std::pair<int64_t, int64_t>> kSizes = {
    {0, 8}, {1, 1}, {3, 7}, {5, 16}, {17, 33}, {127, 48}, {129, 64}, {300, 130}};

TEST(RmsNorm, MatchesTheFormulaWithGradients) {
  at::manual_seed(1);
  for (const auto& [rows, width] : kSizes) {
    const Tensor x = at::randn({rows, width}, at::kDouble).requires_grad_(true);
    const Tensor weight = at::randn({width}, at::kDouble).requires_grad_(true);
    const Tensor upstream = at::randn({rows, width}, at::kDouble);
    const Tensor x2 = x.detach().clone().requires_grad_(true);
    const Tensor weight2 = weight.detach().clone().requires_grad_(true);
    const Tensor got = rms_norm(x, weight, 1e-3);
    const Tensor want = x2 / (x2.square().mean(-1, true) + 1e-3).sqrt() * weight2;
    expect_close(got, want, 1e-13, 1e-13, "forward");
    (got * upstream).sum().backward();
    (want * upstream).sum().backward();
    expect_close(x.grad(), x2.grad(), 1e-12, 1e-12, "x");
    expect_close(weight.grad(), weight2.grad(), 1e-12, 1e-12, "weight");

    const Tensor x32 = x.detach().to(at::kFloat).requires_grad_(true);
    const Tensor weight32 = weight.detach().to(at::kFloat).requires_grad_(true);
    const Tensor got32 = rms_norm(x32, weight32, 1e-3);
    (got32 * upstream.to(at::kFloat)).sum().backward();
    expect_close(got32, want, 2e-6, 2e-6, "float32 forward");
    expect_close(x32.grad(), x2.grad(), 2e-5, 2e-5, "float32 x");
    expect_close(weight32.grad(), weight2.grad(), 2e-5, 2e-5, "float32 weight");
  }
}

TEST(RmsNorm, GradientEqualsFiniteDifferences) {
  at::manual_seed(2);
  const Tensor x = at::randn({3, 5}, at::kDouble), weight = at::randn({5}, at::kDouble);
  const Tensor upstream = at::randn({3, 5}, at::kDouble);
  expect_gradient(
      [&](const Tensor& v) {
        return (rms_norm(v.view({3, 5}), weight, 1e-5) * upstream).sum();
      },
      x.flatten(), "x");
  expect_gradient([&](const Tensor& v) { return (rms_norm(x, v, 1e-5) * upstream).sum(); }, weight,
                  "weight");
}

TEST(RmsNorm, RowOfZerosIsZero) {
  EXPECT_EQ(rms_norm(at::zeros({2, 20}), at::ones({20}), 1e-6).abs().sum().item<double>(), 0.0);
}

TEST(RmsNorm, SameBitsOnAnyThreadsAndARowAlone) {
  at::manual_seed(3);
  const Tensor x = at::randn({700, 65}, at::kFloat), weight = at::randn({65}, at::kFloat);
  test::expect_same_bits_on_any_threads(
      [&] {
        const Tensor a = x.clone().requires_grad_(true), b = weight.clone().requires_grad_(true);
        const Tensor out = rms_norm(a, b, 1e-5);
        out.square().sum().backward();
        return std::vector<Tensor>{out.detach(), a.grad(), b.grad()};
      },
      "rms_norm");
  const Tensor all = rms_norm(x, weight, 1e-5);
  EXPECT_TRUE(at::equal(rms_norm(x.narrow(0, 431, 1), weight, 1e-5)[0], all[431]));
}

TEST(Swiglu, MatchesTheFormulaWithGradients) {
  at::manual_seed(4);
  for (const auto& [rows, width] : kSizes) {
    const Tensor x = (at::randn({rows, 2 * width}, at::kDouble) * 4).requires_grad_(true);
    const Tensor x2 = x.detach().clone().requires_grad_(true);
    const Tensor upstream = at::randn({rows, width}, at::kDouble);
    const auto halves = x2.chunk(2, 1);
    const Tensor want = halves[0] * at::sigmoid(halves[0]) * halves[1];
    const Tensor got = swiglu(x);
    expect_close(got, want, 1e-13, 1e-13, "forward");
    (got * upstream).sum().backward();
    (want * upstream).sum().backward();
    expect_close(x.grad(), x2.grad(), 1e-12, 1e-12, "gradient");

    const Tensor x32 = x.detach().to(at::kFloat).requires_grad_(true);
    const Tensor got32 = swiglu(x32);
    (got32 * upstream.to(at::kFloat)).sum().backward();
    expect_close(got32, want, 1e-6, 2e-6, "float32 forward");
    expect_close(x32.grad(), x2.grad(), 4e-6, 4e-6, "float32 gradient");
  }
}

TEST(Swiglu, GradientEqualsFiniteDifferences) {
  at::manual_seed(5);
  const Tensor upstream = at::randn({3, 5}, at::kDouble);
  expect_gradient(
      [&](const Tensor& v) {
        return (swiglu(v.view({3, 10})) * upstream).sum();
      },
      at::randn({30}, at::kDouble), "x");
}

TEST(Swiglu, GatesOfAnySizeSaturateCleanly) {
  const Tensor gate = at::tensor({-1e30, -1000.0, -89.0, 0.0, 89.0, 1000.0, 1e30}, at::kFloat);
  for (const auto type : {at::kFloat, at::kDouble}) {
    const Tensor x = at::cat({gate, at::ones({7})}).view({1, 14}).to(type).requires_grad_(true);
    const Tensor out = swiglu(x);
    out.sum().backward();
    expect_close(out[0].narrow(0, 3, 4), gate.narrow(0, 3, 4), 0, 1e-6, "large gates pass");
    expect_close(out[0].narrow(0, 0, 3), at::zeros({3}), 1e-6, 0, "small gates close");
    EXPECT_TRUE(at::isfinite(x.grad()).all().item<bool>());
  }
}

TEST(Swiglu, SameBitsOnAnyThreads) {
  const Tensor start = at::randn({300, 130}, at::kFloat);
  test::expect_same_bits_on_any_threads(
      [&] {
        const Tensor x = start.clone().requires_grad_(true);
        const Tensor out = swiglu(x);
        out.sum().backward();
        return std::vector<Tensor>{out.detach(), x.grad()};
      },
      "swiglu");
}

TEST(Pieces, ErrorsNameArgumentExpectedAndGot) {
  expect_message(
      [] {
        rms_norm(at::zeros({2, 3}), at::zeros({4}), 1e-5);
      },
      "rms_norm: weight: expected [H] = [3], got Float [4]");
  expect_message(
      [] {
        rms_norm(at::zeros({2, 3}), at::zeros({3}), -1);
      },
      "rms_norm: eps: expected a finite number >= 0, got -1");
  expect_message(
      [] {
        rms_norm(at::zeros({2, 3}, at::kLong), at::zeros({3}), 0);
      },
      "rms_norm: x: expected float32, float64 or bfloat16, got Long [2, 3]");
  expect_message([] { swiglu(at::zeros({2, 3})); }, "swiglu: x: expected [N,2F], got Float [2, 3]");
}

}  // namespace
}  // namespace hone::kernels
