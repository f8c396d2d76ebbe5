// transformer_block against the ops that it fuses, one after the other under autograd.

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <initializer_list>
#include <limits>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cpu/amx.h"
#include "kernels/ops.h"
#include "tests/kernels/expect_message.h"
#include "tests/support/expect_close.h"

namespace hone::kernels {
namespace {

using test::expect_close;
using test::expect_message;

constexpr double kEps = 1e-5;

struct Block {
  Tensor x, cu, cos, sin;
  std::vector<Tensor> weights;  // as the op takes them
  AttentionOptions options;

  Block as(at::ScalarType type) const {  // leaves of their own
    Block copy = *this;
    const auto leaf = [&](const Tensor& t) {
      return t.detach().to(type).clone().requires_grad_(true);
    };
    copy.x = leaf(x);
    for (Tensor& weight : copy.weights) weight = leaf(weight);
    copy.cos = cos.to(type);
    copy.sin = sin.to(type);
    return copy;
  }
  Tensor fused(bool bfloat16 = false, const std::optional<Tensor>& rows = std::nullopt) const {
    return transformer_block(x, weights, cu, cos, sin, options, kEps, bfloat16, rows);
  }
  Tensor composed() const {
    Tensor qkv = at::mm(rms_norm(x, weights[0], kEps), weights[1].t());
    if (weights.size() == 7) qkv = qkv + weights[6];
    const Tensor middle = x + at::mm(attention(qkv, cu, cos, sin, options), weights[2].t());
    const Tensor gate_up = at::mm(rms_norm(middle, weights[3], kEps), weights[4].t());
    return middle + at::mm(swiglu(gate_up), weights[5].t());
  }
  std::vector<Tensor> gradients() const {
    std::vector<Tensor> all{x.grad()};
    for (const Tensor& weight : weights) all.push_back(weight.grad());
    return all;
  }
};

struct Sizes {
  int64_t width = 24, gate = 40, dim = 8, window = 0, heads = 4, kv_heads = 2;
};

Block random_block(const std::vector<int64_t>& lengths, bool bias, const Sizes& sizes = {}) {
  const auto [width, gate, dim, window, heads, kv_heads] = sizes;
  Block b;
  b.options.heads = heads;
  b.options.kv_heads = kv_heads;
  b.options.head_dim = dim;
  b.options.window = window;
  std::vector<int64_t> cu{0};
  int64_t longest = 1;
  for (const int64_t length : lengths) {
    cu.push_back(cu.back() + length);
    longest = std::max(longest, length);
  }
  b.cu = at::tensor(cu, at::kLong);
  const Tensor angles = at::arange(longest, at::kDouble).unsqueeze(1) *
                        at::pow(100.0, -at::arange(dim / 2, at::kDouble) * 2.0 / dim);
  b.cos = angles.cos();
  b.sin = angles.sin();
  const auto matrix = [](int64_t rows, int64_t columns) {
    return at::randn({rows, columns}, at::kDouble) / std::sqrt(static_cast<double>(columns));
  };
  b.x = at::randn({cu.back(), width}, at::kDouble);
  b.weights = {1 + 0.1 * at::randn({width}, at::kDouble),
               matrix((heads + 2 * kv_heads) * dim, width),
               matrix(width, heads * dim),
               1 + 0.1 * at::randn({width}, at::kDouble),
               matrix(2 * gate, width),
               matrix(width, gate)};
  if (bias) b.weights.push_back(0.3 * at::randn({(heads + 2 * kv_heads) * dim}, at::kDouble));
  return b;
}

const char* const kNames[] = {"x",        "attention_norm", "qkv",  "attention_output",
                              "mlp_norm", "gate_up",        "down", "qkv_bias"};

TEST(TransformerBlock, EqualsItsOpsWithGradients) {
  at::manual_seed(1);
  for (const bool bias : {false, true}) {
    for (const std::vector<int64_t>& lengths :
         {std::vector<int64_t>{}, {1}, {70, 1, 0, 33}, {128, 129}, {100, 900, 101}}) {
      const Block given =
          random_block(lengths, bias, bias ? Sizes{24, 40, 8, 9} : Sizes{24, 40, 12, 0});
      const Block fused = given.as(at::kDouble), composed = given.as(at::kDouble);
      const Block narrow = given.as(at::kFloat);
      const Tensor got = fused.fused(), want = composed.composed(), got32 = narrow.fused();
      const Tensor upstream = at::randn(want.sizes(), at::kDouble);
      got.backward(upstream);
      want.backward(upstream);
      got32.backward(upstream.to(at::kFloat));
      expect_close(got, want, 1e-12, 1e-12, "forward");
      expect_close(got32, want, 1e-5, 1e-5, "float32 forward");
      const auto ours = fused.gradients(), theirs = composed.gradients(),
                 ours32 = narrow.gradients();
      for (size_t i = 0; i < ours.size(); ++i) {
        expect_close(ours[i], theirs[i], 1e-11, 1e-11, kNames[i]);
        expect_close(ours32[i], theirs[i], 1e-4, 1e-4, std::string("float32 ") + kNames[i]);
      }
    }
  }
}

double relative_error(const Tensor& x, const Tensor& y) {
  return (x.to(at::kDouble) - y.to(at::kDouble)).norm().item<double>() / y.norm().item<double>();
}

TEST(TransformerBlock, Bfloat16ProductsStayWithinTheirRounding) {
  at::manual_seed(2);
  // The first has no whole tiles, the others suit the matrix unit where there is one; 300 positions
  // take three rounds of keys.
  for (const Sizes& sizes :
       {Sizes{24, 40}, Sizes{32, 40}, Sizes{64, 172}, Sizes{96, 32, 16, 40}, Sizes{64, 12, 8, 1},
        Sizes{64, 64, 32, 200}, Sizes{32, 31, 64}, Sizes{32, 5, 128, 33}, Sizes{64, 20, 24},
        Sizes{64, 40, 16, 0, 4, 4}, Sizes{32, 40, 32, 70, 3, 1}, Sizes{32, 40, 8, 0, 12, 4}}) {
    const Block given = random_block({70, 1, 57, 300, 0, 3}, sizes.width != 96, sizes);
    const Block mixed = given.as(at::kFloat), exact = given.as(at::kDouble);
    const Tensor got = mixed.fused(true), want = exact.composed();
    EXPECT_EQ(got.scalar_type(), at::kFloat);
    const Tensor upstream = at::randn(want.sizes(), at::kDouble);
    got.backward(upstream.to(at::kFloat));
    want.backward(upstream);
    // Relative to the whole: a rounding of 2^-9 in each operand of up to six products in a row.
    const auto expect_near = [&](const Tensor& x, const Tensor& y, const char* what) {
      EXPECT_LT(relative_error(x, y), 0.015)
          << what << ", width " << sizes.width << ", heads of " << sizes.dim;
      EXPECT_GT(relative_error(x, y), 1e-5) << what << ": was anything rounded at all?";
    };
    expect_near(got.detach() - mixed.x.detach(), want.detach() - exact.x.detach(), "forward");
    const auto ours = mixed.gradients(), theirs = exact.gradients();
    for (size_t i = 0; i < ours.size(); ++i) {
      EXPECT_EQ(ours[i].scalar_type(), at::kFloat);
      expect_near(ours[i], theirs[i], kNames[i]);
    }
  }
}

/// Both round operands; the matrix unit those of attention, too. Numbers of rows around 32 and 256,
/// which pass together, and random shapes, each finding what the one before left in the buffers.
TEST(TransformerBlock, MatrixUnitGivesWhatLibraryProductsGive) {
  if (!amx_usable()) GTEST_SKIP() << "no AMX here";
  at::manual_seed(4);
  std::vector<std::pair<std::vector<int64_t>, Sizes>> cases;
  for (const int64_t rows : {64, 65, 95, 96, 97, 255, 256, 257, 320, 511, 700}) {
    cases.push_back({{rows - 40, 40}, {64, 8 * (rows % 23) + 4}});
  }
  std::mt19937 random(4);
  const auto any = [&](std::initializer_list<int64_t> of) {
    return of.begin()[random() % of.size()];
  };
  for (int i = 0; i < 80; ++i) {
    Sizes sizes{any({32, 64, 96, 128}), 1 + static_cast<int64_t>(random() % 90)};
    sizes.dim = any({8, 16, 32, 64});
    sizes.kv_heads = sizes.dim == 8 ? any({2, 4}) : any({1, 2});
    sizes.heads = sizes.kv_heads * any({1, 2, 3, 4});
    sizes.window = any({0, 0, 1, 17, 100});
    std::vector<int64_t> lengths(1 + random() % 12);
    for (int64_t& length : lengths) length = static_cast<int64_t>(random()) % any({3, 40, 260});
    cases.push_back({lengths, sizes});
  }
  for (size_t n = 0; n < cases.size(); ++n) {
    const auto& [lengths, sizes] = cases[n];
    const Block given = random_block(lengths, n % 2 == 0, sizes);
    if (given.x.size(0) == 0) continue;
    const Tensor upstream = at::randn(given.x.sizes(), at::kFloat);
    std::vector<Tensor> results[2];
    for (const bool amx : {false, true}) {
      use_amx(amx);
      const Block b = given.as(at::kFloat);
      const Tensor y = b.fused(true);
      y.backward(upstream);
      results[amx] = b.gradients();
      results[amx].push_back(y.detach() - b.x.detach());
    }
    for (size_t i = 0; i < results[0].size(); ++i) {
      EXPECT_LT(relative_error(results[1][i], results[0][i]), 0.02)
          << "case " << n << ", " << given.x.size(0) << " rows, width " << sizes.width << ", "
          << sizes.heads << "/" << sizes.kv_heads << " heads of " << sizes.dim << ", window "
          << sizes.window << ": " << (i + 1 < results[0].size() ? kNames[i] : "out");
    }
  }
}

/// Some rows of the result are those of the whole one, and so are the gradients of a loss that
/// reads these rows alone: none, all, the last of each sequence, and what is left of several
/// threads' rows.
TEST(TransformerBlock, SomeRowsAreThoseOfTheWhole) {
  at::manual_seed(6);
  const std::vector<int64_t> lengths{70, 1, 0, 257, 300, 33};
  for (const Sizes& sizes : {Sizes{24, 40, 12}, Sizes{64, 172}, Sizes{64, 20, 32, 40}}) {
    const Block given = random_block(lengths, sizes.dim == 8, sizes);
    const int64_t tokens = given.x.size(0);
    const Tensor lasts = at::tensor({69, 70, 327, 627, 660}, at::kLong);
    for (const Tensor& rows :
         {lasts, at::empty({0}, at::kLong), at::arange(tokens), at::arange(3, tokens, 2),
          at::arange(71, 350), at::arange(600, tokens)}) {
      for (const auto& [type, bfloat16] :
           {std::pair{at::kDouble, false}, {at::kFloat, false}, {at::kFloat, true}}) {
        const double close = type == at::kDouble ? 1e-12 : bfloat16 ? 1e-3 : 1e-5;
        const Block some = given.as(type), whole = given.as(type);
        const Tensor got = some.fused(bfloat16, rows), want = whole.fused(bfloat16);
        ASSERT_EQ(got.sizes(), (std::vector<int64_t>{rows.size(0), sizes.width}));
        const Tensor upstream = at::randn(got.sizes(), type);
        got.backward(upstream);
        want.index_select(0, rows).backward(upstream);
        const auto ours = some.gradients(), theirs = whole.gradients();
        const std::string where = std::to_string(rows.size(0)) + " rows, width " +
                                  std::to_string(sizes.width) + ", bfloat16 " +
                                  std::to_string(bfloat16) + ": ";
        const auto expect_equal = [&](const Tensor& x, const Tensor& y, const std::string& what) {
          EXPECT_LE((x - y).norm().item<double>(), close * (1e-30 + y.norm().item<double>()))
              << where << what;
        };
        expect_equal(got.detach(), want.detach().index_select(0, rows), "forward");
        for (size_t i = 0; i < ours.size(); ++i) expect_equal(ours[i], theirs[i], kNames[i]);
        const at::NoGradGuard no_grad;
        EXPECT_TRUE(at::equal(some.fused(bfloat16, rows), got.detach())) << where;
      }
    }
  }
}

TEST(TransformerBlock, SameBitsWithAndWithoutGradients) {
  at::manual_seed(3);
  for (const Sizes& sizes : {Sizes{}, Sizes{64, 172}}) {
    for (const bool bfloat16 : {false, true}) {
      const Block b = random_block({40, 200}, false, sizes).as(at::kFloat);
      const Tensor with = b.fused(bfloat16).detach();
      const at::NoGradGuard no_grad;
      EXPECT_TRUE(at::equal(b.fused(bfloat16), with));
    }
  }
}

/// In the matrix unit rows share tiles: what one holds must not reach another, a NaN least of all.
TEST(TransformerBlock, ASequencesBitsDoNotDependOnItsNeighbours) {
  if (!amx_usable()) GTEST_SKIP() << "no AMX here";
  at::manual_seed(5);
  const Block all = random_block({13, 50, 70, 1, 33}, true, {64, 172}).as(at::kFloat);
  const at::NoGradGuard no_grad;
  all.x.narrow(0, 13, 50).fill_(std::numeric_limits<float>::quiet_NaN());
  const Tensor together = all.fused(true);
  EXPECT_TRUE(together.narrow(0, 13, 50).isnan().all().item<bool>());
  for (const auto& [first, length] :
       {std::pair<int64_t, int64_t>{0, 13}, {63, 70}, {133, 1}, {134, 33}}) {
    Block alone = all;
    alone.x = all.x.narrow(0, first, length).clone();
    alone.cu = at::tensor({int64_t{0}, length}, at::kLong);
    EXPECT_TRUE(at::equal(alone.fused(true), together.narrow(0, first, length))) << first;
  }
}

TEST(TransformerBlock, ErrorsNameArgumentExpectedAndGot) {
  const Block b = random_block({4}, false);
  const auto with = [&](size_t i, const Tensor& weight) {
    Block copy = b;
    copy.weights[i] = weight;
    return copy;
  };
  expect_message([&] { with(2, b.weights[2].t()).fused(); },
                 "transformer_block: attention_output: expected [H,heads*head_dim] = [24, 32]");
  expect_message([&] { with(4, b.weights[4].narrow(0, 0, 79)).fused(); },
                 "transformer_block: gate_up: expected [2F,H], got Double [79, 24]");
  expect_message([&] { with(0, b.weights[0].to(at::kFloat)).fused(); },
                 "transformer_block: weights: expected Double, got Float");
  expect_message([&] { b.fused(true); },
                 "transformer_block: bfloat16: expected float32 x, got Double [4, 24]");
  const auto rows_of = [&](std::initializer_list<int64_t> rows) {
    b.fused(false, at::tensor(rows, at::kLong));
  };
  expect_message(
      [&] {
        rows_of({0, 4});
      },
      "transformer_block: rows: expected ascending rows of x, of which there are 4, got 4 "
      "at index 1");
  expect_message([&] { rows_of({2, 2}); }, "transformer_block: rows: expected ascending rows of x");
  expect_message([&] { rows_of({-1}); }, "transformer_block: rows: expected ascending rows of x");
  expect_message([&] { b.fused(false, at::zeros({1})); },
                 "transformer_block: rows: expected Long, got Float");
  Block few = b;
  few.weights.pop_back();
  expect_message([&] { few.fused(); }, "transformer_block: weights: expected attention_norm");
}

}  // namespace
}  // namespace hone::kernels
