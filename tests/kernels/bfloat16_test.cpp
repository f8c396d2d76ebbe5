// The model ops on bfloat16: what float64 gives for the same numbers, rounded once. Every bound is
// half a unit in the last of bfloat16's 8 bits (2^-8 relative) and what float32 sums lose.

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <functional>
#include <vector>

#include "kernels/ops.h"
#include "tests/support/expect_close.h"

namespace hone::kernels {
namespace {

using test::expect_close;

constexpr double kHalfUnit = 1.0 / 256 + 1e-5;

Tensor bfloat16(at::IntArrayRef sizes, double scale = 1.0) {
  return (at::randn(sizes, at::kFloat) * scale).to(at::kBFloat16);
}

/// `op` on bfloat16 leaves and on the same numbers in float64: result and gradients.
void expect_rounded(const std::vector<Tensor>& inputs,
                    const std::function<Tensor(const std::vector<Tensor>&)>& op, double atol,
                    const std::string& what) {
  std::vector<Tensor> narrow, wide;
  for (const Tensor& x : inputs) {
    narrow.push_back(x.detach().clone().requires_grad_(true));
    wide.push_back(x.to(at::kDouble).requires_grad_(true));
  }
  const Tensor got = op(narrow), want = op(wide);
  const Tensor upstream = bfloat16(want.sizes());
  got.backward(upstream.to(got.scalar_type()));
  want.backward(upstream.to(at::kDouble));
  EXPECT_EQ(got.scalar_type(), at::kBFloat16) << what;
  expect_close(got, want, atol, kHalfUnit, what);
  for (size_t i = 0; i < inputs.size(); ++i) {
    EXPECT_EQ(narrow[i].grad().scalar_type(), at::kBFloat16) << what;
    expect_close(narrow[i].grad(), wide[i].grad(), atol, kHalfUnit,
                 what + ", gradient " + std::to_string(i));
  }
}

TEST(Bfloat16, NormGateAndDropout) {
  at::manual_seed(1);
  expect_rounded(
      {bfloat16({33, 72}), bfloat16({72})},
      [](const auto& in) { return rms_norm(in[0], in[1], 1e-5); }, 1e-5, "rms_norm");
  expect_rounded(
      {bfloat16({33, 72})}, [](const auto& in) { return swiglu(in[0]); }, 1e-6, "swiglu");
  expect_rounded(
      {bfloat16({33, 72})}, [](const auto& in) { return kernels::dropout(in[0], 0.3, 5); }, 0,
      "dropout");
}

struct Tables {
  Tensor cos, sin;  // float32
};

Tables tables(int64_t positions, int64_t head_dim) {
  const int64_t half = head_dim / 2;
  const Tensor angles = at::arange(positions, at::kDouble).unsqueeze(1) *
                        at::pow(100.0, -at::arange(half, at::kDouble) / static_cast<double>(half));
  return {angles.cos().to(at::kFloat), angles.sin().to(at::kFloat)};
}

TEST(Bfloat16, Attention) {
  at::manual_seed(2);
  for (const int64_t dim : {8, 16, 24}) {
    AttentionOptions o;
    o.heads = 4;
    o.kv_heads = 2;
    o.head_dim = dim;
    const Tables t = tables(90, dim);
    const Tensor cu = at::tensor(std::vector<int64_t>{0, 1, 78, 96}, at::kLong);
    // d qkv uses the rounded output once more (delta = dO . O), hence the larger bound.
    expect_rounded(
        {bfloat16({96, 8 * dim})},
        [&](const auto& in) {
          const auto type = in[0].scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
          return attention(in[0], cu, t.cos.to(type), t.sin.to(type), o);
        },
        4e-2, "attention");
    const Tensor qkv = bfloat16({96, 8 * dim});
    expect_close(
        attention(qkv, cu, t.cos, t.sin, o),
        attention(qkv.to(at::kDouble), cu, t.cos.to(at::kDouble), t.sin.to(at::kDouble), o), 1e-5,
        kHalfUnit, "attention");
    const Tensor rounded_tables =
        attention(qkv, cu, t.cos.to(at::kBFloat16), t.sin.to(at::kBFloat16), o);
    expect_close(rounded_tables, attention(qkv, cu, t.cos, t.sin, o), 0.1, 0.1, "bfloat16 tables");
  }
}

TEST(Bfloat16, DecodeAttentionReadsAndWritesItsCaches) {
  at::manual_seed(3);
  for (const int64_t dim : {2, 8, 16, 48}) {
    AttentionOptions o;
    o.heads = 4;
    o.kv_heads = 2;
    o.head_dim = dim;
    const Tables t = tables(20, dim);
    const Tensor k = bfloat16({12, 4, 2, dim}), v = bfloat16({12, 4, 2, dim});
    const Tensor k64 = k.to(at::kDouble), v64 = v.to(at::kDouble);
    const Tensor table = at::randperm(12, at::kLong).view({3, 4}).to(at::kInt);
    const Tensor positions = at::tensor(std::vector<int64_t>{0, 15, 6}, at::kLong);
    const Tensor qkv = bfloat16({3, 8 * dim});
    const Tensor got = decode_attention(qkv, k, v, table, positions, t.cos, t.sin, o);
    const Tensor want = decode_attention(qkv.to(at::kDouble), k64, v64, table, positions,
                                         t.cos.to(at::kDouble), t.sin.to(at::kDouble), o);
    EXPECT_EQ(got.scalar_type(), at::kBFloat16);
    expect_close(k, k64, 1e-6, kHalfUnit, "k_cache");
    expect_close(v, v64, 0, 0, "v_cache");
    // The keys just written were rounded, which moves their scores a little.
    expect_close(got, want, 2e-2, kHalfUnit, "decode_attention");
  }
}

struct Head {
  Tensor hidden, weight, targets, old, advantages, token_weights;

  Head as(at::ScalarType type) const {
    return {hidden.to(type).detach().requires_grad_(true),
            weight.to(type).detach().requires_grad_(true),
            targets,
            old.to(type == at::kDouble ? type : at::kFloat),
            advantages.to(type == at::kDouble ? type : at::kFloat),
            token_weights.to(type == at::kDouble ? type : at::kFloat)};
  }
};

TEST(Bfloat16, HeadOpsDoNotRoundLogits) {
  at::manual_seed(4);
  const Head given{bfloat16({70, 40}),  bfloat16({300, 40}), at::randint(300, {70}, at::kLong),
                   at::randn({70}) - 5, at::randn({70}),     at::rand({70}) / 70};
  const std::vector<std::function<std::vector<Tensor>(const Head&)>> ops = {
      [](const Head& h) {
        const auto out = token_logprobs(h.hidden, h.weight, h.targets, 0.7);
        return std::vector<Tensor>{(out.logprobs * h.advantages).sum(), out.logprobs, out.entropy};
      },
      [](const Head& h) {
        const auto out = head_nll(h.hidden, h.weight, h.targets, h.token_weights, 0.7);
        return std::vector<Tensor>{out.loss, out.logprobs};
      },
      [](const Head& h) {
        const auto out = head_policy_loss(h.hidden, h.weight, h.targets, h.old, h.advantages,
                                          std::nullopt, h.token_weights, 0.7, {});
        return std::vector<Tensor>{out.loss, out.logprobs, out.entropy, out.metrics};
      }};
  for (size_t k = 0; k < ops.size(); ++k) {
    const Head narrow = given.as(at::kBFloat16), wide = given.as(at::kDouble);
    const auto got = ops[k](narrow), want = ops[k](wide);
    got[0].backward();
    want[0].backward();
    for (size_t i = 0; i < got.size(); ++i) {
      EXPECT_NE(got[i].scalar_type(), at::kBFloat16);
      expect_close(got[i], want[i], 1e-5, 1e-5, "op " + std::to_string(k));
    }
    // d logits are rounded before they are multiplied where the machine has bfloat16 products.
    EXPECT_EQ(narrow.hidden.grad().scalar_type(), at::kBFloat16);
    const auto bound = [](const Tensor& x) { return x.abs().max().item<double>() / 128; };
    expect_close(narrow.hidden.grad(), wide.hidden.grad(), bound(wide.hidden.grad()), kHalfUnit,
                 "hidden");
    expect_close(narrow.weight.grad(), wide.weight.grad(), bound(wide.weight.grad()), kHalfUnit,
                 "weight");
  }
}

TEST(Bfloat16, SampleGivesFloat32) {
  at::manual_seed(5);
  const Tensor logits = bfloat16({200, 90}, 2.0), i = at::arange(200, at::kLong);
  const Tensor keys = at::stack({i, i, i}, 1);
  const Sampled got = sample(logits, keys, 3, {0.8, 20, 0.9, 0.0});
  const Sampled want = sample(logits.to(at::kFloat), keys, 3, {0.8, 20, 0.9, 0.0});
  EXPECT_EQ(got.logprobs.scalar_type(), at::kFloat);
  EXPECT_TRUE(at::equal(got.tokens, want.tokens));
  EXPECT_TRUE(at::equal(got.logprobs, want.logprobs));
  EXPECT_TRUE(at::equal(got.entropy, want.entropy));
}

}  // namespace
}  // namespace hone::kernels
