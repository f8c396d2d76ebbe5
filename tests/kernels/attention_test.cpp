// Packed attention against plain loops over every pair of tokens in double, written from the
// definition, and the invariances of a pack.

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
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

struct Tables {
  Tensor cos, sin;
};

Tables tables(int64_t positions, int64_t head_dim, at::ScalarType type = at::kDouble) {
  const int64_t half = head_dim / 2;
  const Tensor rates = at::pow(10000.0, -at::arange(half, at::kDouble) / static_cast<double>(half));
  const Tensor angles = at::arange(positions, at::kDouble).unsqueeze(1) * rates;
  return {angles.cos().to(type), angles.sin().to(type)};
}

Tensor bounds(const std::vector<int64_t>& lengths) {
  std::vector<int64_t> cu{0};
  for (int64_t length : lengths) cu.push_back(cu.back() + length);
  return at::tensor(cu, at::kLong);
}

struct Case {
  std::vector<int64_t> lengths;
  AttentionOptions options;

  int64_t tokens() const { return bounds(lengths)[-1].item<int64_t>(); }
  int64_t width() const { return (options.heads + 2 * options.kv_heads) * options.head_dim; }
  int64_t longest() const { return *std::max_element(lengths.begin(), lengths.end()); }
  Tensor random_qkv() const { return at::randn({tokens(), width()}, at::kDouble); }
  Tensor run(const Tensor& qkv) const {
    const Tables t = tables(longest() + 1, options.head_dim, qkv.scalar_type());
    return attention(qkv, bounds(lengths), t.cos, t.sin, options);
  }
};

Tensor rotated(const Tensor& x, const Tables& t) {  // [T,heads,head_dim]
  const auto halves = x.chunk(2, -1);
  const Tensor c = t.cos.narrow(0, 0, x.size(0)).unsqueeze(1);
  const Tensor s = t.sin.narrow(0, 0, x.size(0)).unsqueeze(1);
  return at::cat({halves[0] * c - halves[1] * s, halves[1] * c + halves[0] * s}, -1);
}

/// Whole score matrices, one sequence and head at a time; differentiable.
Tensor reference(const Tensor& qkv, const Case& c) {
  const auto& o = c.options;
  const Tables t = tables(c.longest() + 1, o.head_dim);
  std::vector<Tensor> out;
  int64_t begin = 0;
  for (int64_t length : c.lengths) {
    const Tensor x =
        qkv.narrow(0, begin, length).view({length, o.heads + 2 * o.kv_heads, o.head_dim});
    begin += length;
    const Tensor q = rotated(x.narrow(1, 0, o.heads), t);
    const Tensor k = rotated(x.narrow(1, o.heads, o.kv_heads), t);
    const Tensor v = x.narrow(1, o.heads + o.kv_heads, o.kv_heads);
    const Tensor i = at::arange(length, at::kLong).unsqueeze(1), j = at::arange(length, at::kLong);
    Tensor hidden = j > i;
    if (o.window > 0) hidden = hidden.logical_or(i - j >= o.window);
    std::vector<Tensor> heads;
    for (int64_t h = 0; h < o.heads; ++h) {
      const int64_t kv = h / (o.heads / o.kv_heads);
      const double scale = o.scale > 0 ? o.scale : 1 / std::sqrt(static_cast<double>(o.head_dim));
      const Tensor scores = at::matmul(q.select(1, h), k.select(1, kv).t()) * scale;
      const Tensor p = at::softmax(scores.masked_fill(hidden, -1e300), -1);
      heads.push_back(at::matmul(p, v.select(1, kv)));
    }
    out.push_back(at::stack(heads, 1).reshape({length, o.heads * o.head_dim}));
  }
  return at::cat(out, 0);
}

AttentionOptions shape(int64_t heads, int64_t kv_heads, int64_t head_dim, int64_t window = 0,
                       double scale = 0) {
  AttentionOptions o;
  o.heads = heads;
  o.kv_heads = kv_heads;
  o.head_dim = head_dim;
  o.window = window;
  o.scale = scale;
  return o;
}

/// Lengths about the tile of 64; head sizes that are whole vectors and that are not.
std::vector<Case> cases() {
  return {{{0, 1, 17, 64, 300}, shape(2, 2, 16)},
          {{0, 1, 17, 64, 300}, shape(4, 2, 8)},
          {{65, 0, 128, 129, 2}, shape(6, 2, 10, 0, 0.3)},
          {{63, 64, 65, 200}, shape(4, 1, 2, 20)},
          {{300, 5}, shape(2, 1, 64, 64)},
          {{130, 40}, shape(2, 2, 32, 1)},
          {{70, 30}, shape(3, 3, 128, 65)},
          {{0, 0}, shape(2, 2, 4)},
          {{}, shape(1, 1, 4)}};
}

TEST(Attention, MatchesPlainLoopsWithGradients) {
  at::manual_seed(1);
  for (const Case& c : cases()) {
    if (c.lengths.empty()) continue;
    const Tensor qkv = c.random_qkv().requires_grad_(true);
    const Tensor same = qkv.detach().clone().requires_grad_(true);
    const Tensor got = c.run(qkv), want = reference(same, c);
    const Tensor upstream = at::randn_like(want);
    expect_close(got, want, 1e-13, 1e-12, "forward");
    (got * upstream).sum().backward();
    (want * upstream).sum().backward();
    expect_close(qkv.grad(), same.grad(), 1e-12, 1e-11, "gradient");

    const Tensor single = qkv.detach().to(at::kFloat).requires_grad_(true);
    const Tensor got32 = c.run(single);
    (got32 * upstream.to(at::kFloat)).sum().backward();
    expect_close(got32, want, 3e-6, 3e-6, "float32 forward");
    expect_close(single.grad(), same.grad(), 2e-5, 2e-5, "float32 gradient");
  }
}

TEST(Attention, GradientEqualsFiniteDifferences) {
  at::manual_seed(2);
  const Case c{{3, 5}, shape(2, 1, 4, 3)};
  const Tensor x = c.random_qkv(), upstream = at::randn({8, 8}, at::kDouble);
  expect_gradient([&](const Tensor& v) { return (c.run(v.view(x.sizes())) * upstream).sum(); },
                  x.flatten(), "qkv");
}

TEST(Attention, NoTokens) {
  const Case c{{0}, shape(2, 1, 4)};
  const Tensor qkv = at::zeros({0, 16}, at::kFloat).requires_grad_(true);
  const Tensor out = c.run(qkv);
  EXPECT_EQ(out.sizes(), (std::vector<int64_t>{0, 8}));
  out.sum().backward();
  const Tables t = tables(1, 4, at::kFloat);
  EXPECT_EQ(attention(qkv, at::zeros({1}, at::kLong), t.cos, t.sin, c.options).size(0), 0);
}

TEST(Attention, ASequenceHasTheSameBitsInAnyPack) {
  at::manual_seed(3);
  const std::vector<int64_t> lengths{40, 1, 97, 64};
  const Case pack{lengths, shape(4, 2, 16)};
  const Tensor upstream = at::randn({202, 64}, at::kFloat);
  const Tensor qkv = pack.random_qkv().to(at::kFloat).requires_grad_(true);
  const Tensor together = pack.run(qkv);
  (together * upstream).sum().backward();
  int64_t begin = 0;
  for (int64_t length : lengths) {
    const Case alone{{length}, pack.options};
    const Tensor one = qkv.detach().narrow(0, begin, length).clone().requires_grad_(true);
    const Tensor out = alone.run(one);
    (out * upstream.narrow(0, begin, length)).sum().backward();
    EXPECT_TRUE(at::equal(out.detach(), together.detach().narrow(0, begin, length))) << length;
    EXPECT_TRUE(at::equal(one.grad(), qkv.grad().narrow(0, begin, length))) << length;
    begin += length;
  }
}

TEST(Attention, APrefixDoesNotDependOnWhatFollows) {
  at::manual_seed(4);
  const Case whole{{200}, shape(2, 2, 8)}, prefix{{77}, shape(2, 2, 8)};
  const Tensor qkv = whole.random_qkv().to(at::kFloat);
  expect_close(prefix.run(qkv.narrow(0, 0, 77)), whole.run(qkv).narrow(0, 0, 77), 0, 0, "prefix");
}

TEST(Attention, SameBitsOnAnyThreads) {
  at::manual_seed(5);
  const Case c{{40, 20, 80, 3, 150}, shape(4, 2, 16)};
  const Tensor start = c.random_qkv().to(at::kFloat);
  test::expect_same_bits_on_any_threads(
      [&] {
        const Tensor qkv = start.clone().requires_grad_(true);
        const Tensor out = c.run(qkv);
        out.square().sum().backward();
        return std::vector<Tensor>{out.detach(), qkv.grad()};
      },
      "attention");
}

TEST(Attention, LargeScoresDoNotOverflow) {
  at::manual_seed(6);
  const Case c{{150}, shape(1, 1, 16)};
  const Tensor qkv = (c.random_qkv() * 100).to(at::kFloat).requires_grad_(true);
  const Tensor out = c.run(qkv);
  expect_close(out, reference(qkv.detach().to(at::kDouble), c), 2e-2, 1e-3, "forward");
  out.sum().backward();
  EXPECT_TRUE(at::isfinite(qkv.grad()).all().item<bool>());
}

TEST(Attention, ErrorsNameArgumentExpectedAndGot) {
  const Case c{{3, 2}, shape(2, 1, 4)};
  const Tables t = tables(3, 4);
  const Tensor qkv = c.random_qkv(), cu = bounds(c.lengths);
  const auto call = [&](AttentionOptions o, const Tensor& q, const Tensor& b) {
    return [=] { attention(q, b, t.cos, t.sin, o); };
  };
  expect_message(call(shape(3, 2, 4), qkv, cu),
                 "attention: kv_heads: expected a divisor of heads = 3, got 2");
  expect_message(call(shape(2, 1, 3), qkv, cu),
                 "attention: head_dim: expected an even number above 0, got 3");
  expect_message(call(shape(2, 1, 4, -1), qkv, cu),
                 "attention: window: expected at least 1, or 0 for none, got -1");
  expect_message(call(shape(2, 1, 4), qkv.narrow(1, 0, 15), cu),
                 "attention: qkv: expected [N,(heads+2*kv_heads)*head_dim] = [N,16], got");
  expect_message(call(shape(2, 1, 4), qkv, bounds({1, 4})),
                 "attention: cu_seqlens: expected sequences of at most P = 3 tokens");
  expect_message(call(shape(2, 1, 4), qkv, at::tensor({0, 7, 5}, at::kLong)),
                 "attention: cu_seqlens");
  expect_message(call(shape(2, 1, 4), qkv, at::tensor({0, 3}, at::kLong)), "attention: cu_seqlens");
}

}  // namespace
}  // namespace hone::kernels
