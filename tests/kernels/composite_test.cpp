// The ATen forms that CUDA runs, checked on the CPU against the CPU kernels.

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <vector>

#include "kernels/composite/transformer.h"
#include "kernels/ops.h"
#include "tests/support/expect_close.h"

namespace hone::kernels {
namespace {

using test::expect_close;

struct Tables {
  Tensor cos, sin;
};

Tables tables(int64_t positions, int64_t head_dim) {
  const int64_t half = head_dim / 2;
  const Tensor angles = at::arange(positions, at::kDouble).unsqueeze(1) *
                        at::pow(100.0, -at::arange(half, at::kDouble) / static_cast<double>(half));
  return {angles.cos(), angles.sin()};
}

TEST(Composite, NormAndGate) {
  at::manual_seed(1);
  const Tensor x = at::randn({9, 14}, at::kDouble).requires_grad_(true);
  const Tensor weight = at::randn({14}, at::kDouble).requires_grad_(true);
  const Tensor grad = at::randn({9, 14}, at::kDouble), half = grad.narrow(1, 0, 7);
  const Tensor norm = rms_norm(x, weight, 1e-3);
  norm.backward(grad);
  const auto [d_x, d_weight] =
      composite::rms_norm_backward(grad, x.detach(), weight.detach(), 1e-3);
  expect_close(composite::rms_norm(x.detach(), weight.detach(), 1e-3), norm, 1e-13);
  expect_close(d_x, x.grad(), 1e-12);
  expect_close(d_weight, weight.grad(), 1e-12);

  const Tensor gate = at::randn({9, 14}, at::kDouble).requires_grad_(true);
  const Tensor out = swiglu(gate);
  out.backward(half);
  expect_close(composite::swiglu(gate.detach()), out, 1e-13);
  expect_close(composite::swiglu_backward(half, gate.detach()), gate.grad(), 1e-12);
}

TEST(Composite, AttentionAndItsGradient) {
  at::manual_seed(2);
  for (const int64_t window : {0, 5}) {
    AttentionOptions o;
    o.heads = 4;
    o.kv_heads = 2;
    o.head_dim = 6;
    o.window = window;
    const AttentionShape shape{4, 2, 6, 2, 48, window, 1 / std::sqrt(6.0)};
    const Tables t = tables(20, 6);
    const Tensor cu = at::tensor(std::vector<int64_t>{0, 0, 1, 18, 24}, at::kLong);
    const Tensor qkv = at::randn({24, 48}, at::kDouble).requires_grad_(true);
    const Tensor grad = at::randn({24, 24}, at::kDouble);
    const Tensor want = attention(qkv, cu, t.cos, t.sin, o);
    want.backward(grad);
    const auto [out, lse] = composite::attention_forward(shape, qkv.detach(), cu, t.cos, t.sin);
    expect_close(out, want, 1e-13);
    expect_close(
        composite::attention_backward(shape, grad, qkv.detach(), cu, t.cos, t.sin, out, lse),
        qkv.grad(), 1e-12);
  }
}

TEST(Composite, DecodeAttention) {
  at::manual_seed(3);
  for (const int64_t window : {0, 4}) {
    AttentionOptions o;
    o.heads = 4;
    o.kv_heads = 2;
    o.head_dim = 6;
    o.window = window;
    const AttentionShape shape{4, 2, 6, 2, 48, window, 1 / std::sqrt(6.0)};
    const Tables t = tables(20, 6);
    const Tensor k = at::randn({12, 4, 2, 6}, at::kDouble), v = at::randn_like(k);
    const Tensor k2 = k.clone(), v2 = v.clone();
    const Tensor table = at::randperm(12, at::kLong).view({3, 4}).to(at::kInt);
    const Tensor positions = at::tensor(std::vector<int64_t>{0, 15, 6}, at::kLong);
    const Tensor qkv = at::randn({3, 48}, at::kDouble);
    const Tensor want = decode_attention(qkv, k, v, table, positions, t.cos, t.sin, o);
    expect_close(composite::decode_attention(shape, qkv, k2, v2, table, positions, t.cos, t.sin),
                 want, 1e-13);
    expect_close(k2, k, 1e-15);
    expect_close(v2, v, 0);
  }
}

}  // namespace
}  // namespace hone::kernels
