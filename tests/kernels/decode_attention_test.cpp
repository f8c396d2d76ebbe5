// Decoding token by token through the block cache must give what packed attention gives at once.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <vector>

#include "kernels/ops.h"
#include "tests/kernels/expect_message.h"
#include "tests/kernels/same_bits.h"
#include "tests/support/expect_close.h"

namespace hone::kernels {
namespace {

using test::expect_close;
using test::expect_message;

struct Decoder {
  AttentionOptions options;
  int64_t rows, length, block_size;
  at::ScalarType type = at::kDouble;

  int64_t width() const { return (options.heads + 2 * options.kv_heads) * options.head_dim; }
  int64_t max_blocks() const { return (length + block_size - 1) / block_size; }
  Tensor cos() const { return at::cos(angles()).to(type); }
  Tensor sin() const { return at::sin(angles()).to(type); }
  Tensor angles() const {
    const int64_t half = options.head_dim / 2;
    return at::arange(length, at::kDouble).unsqueeze(1) *
           at::pow(10000.0, -at::arange(half, at::kDouble) / static_cast<double>(half));
  }
  Tensor cache() const {  // NaN everywhere: what is read must have been written
    return at::full({rows * max_blocks() + 3, block_size, options.kv_heads, options.head_dim},
                    std::numeric_limits<double>::quiet_NaN(), type);
  }
  /// Blocks of a row are scattered over the cache.
  Tensor table() const {
    return at::randperm(rows * max_blocks() + 3, at::kLong)
        .narrow(0, 0, rows * max_blocks())
        .view({rows, max_blocks()})
        .to(at::kInt);
  }
  Tensor step(const Tensor& qkv, const Tensor& k, const Tensor& v, const Tensor& blocks,
              const Tensor& positions) const {
    return decode_attention(qkv, k, v, blocks, positions, cos(), sin(), options);
  }
};

AttentionOptions shape(int64_t heads, int64_t kv_heads, int64_t head_dim, int64_t window = 0) {
  AttentionOptions o;
  o.heads = heads;
  o.kv_heads = kv_heads;
  o.head_dim = head_dim;
  o.window = window;
  return o;
}

TEST(DecodeAttention, TokenByTokenEqualsPackedAttention) {
  at::manual_seed(1);
  for (const auto type : {at::kDouble, at::kFloat}) {
    for (const Decoder& d :
         {Decoder{shape(2, 2, 16), 3, 37, 16, type}, Decoder{shape(4, 2, 8), 2, 20, 5, type},
          Decoder{shape(6, 2, 10, 7), 3, 33, 4, type}, Decoder{shape(3, 1, 2), 1, 9, 1, type},
          Decoder{shape(8, 1, 64, 16), 2, 40, 16, type}}) {
      const Tensor qkv = at::randn({d.rows, d.length, d.width()}, at::kDouble).to(type);
      const Tensor packed =
          attention(qkv.view({-1, d.width()}), at::arange(d.rows + 1, at::kLong) * d.length,
                    d.cos(), d.sin(), d.options)
              .view({d.rows, d.length, -1});
      const Tensor k = d.cache(), v = d.cache(), blocks = d.table();
      const double tolerance = type == at::kDouble ? 1e-13 : 3e-6;
      for (int64_t t = 0; t < d.length; ++t) {
        const Tensor out =
            d.step(qkv.select(1, t).contiguous(), k, v, blocks, at::full({d.rows}, t, at::kLong));
        expect_close(out, packed.select(1, t), tolerance, tolerance, "step " + std::to_string(t));
      }
    }
  }
}

TEST(DecodeAttention, RowsAtDifferentPositionsDoNotDependOnTheBatch) {
  at::manual_seed(2);
  const Decoder d{shape(4, 2, 16), 5, 30, 8, at::kFloat};
  const Tensor k = at::randn_like(d.cache()), v = at::randn_like(k), blocks = d.table();
  const Tensor qkv = at::randn({d.rows, d.width()}, at::kFloat);
  const Tensor positions = at::tensor({0, 29, 7, 8, 15}, at::kLong);
  test::expect_same_bits_on_any_threads(
      [&] {
        const Tensor k_copy = k.clone(), v_copy = v.clone();
        return std::vector<Tensor>{d.step(qkv, k_copy, v_copy, blocks, positions), k_copy, v_copy};
      },
      "decode_attention");
  const Tensor k_all = k.clone(), v_all = v.clone();
  const Tensor together = d.step(qkv, k_all, v_all, blocks, positions);
  const Tensor k_one = k.clone(), v_one = v.clone();
  for (int64_t r = d.rows - 1; r >= 0; --r) {
    const Tensor alone = d.step(qkv.narrow(0, r, 1), k_one, v_one, blocks.narrow(0, r, 1),
                                positions.narrow(0, r, 1));
    EXPECT_TRUE(at::equal(alone[0], together[r])) << r;
  }
  EXPECT_TRUE(at::equal(k_one, k_all));
  EXPECT_TRUE(at::equal(v_one, v_all));
  // One slot a row has changed and nothing else.
  EXPECT_EQ((k_all != k).any(-1).any(-1).sum().item<int64_t>(), d.rows);
}

TEST(DecodeAttention, ErrorsNameArgumentExpectedAndGot) {
  const Decoder d{shape(2, 1, 4), 2, 6, 4};
  const Tensor k = d.cache(), v = d.cache(), qkv = at::randn({2, d.width()}, at::kDouble);
  const Tensor good = at::zeros({2, 2}, at::kInt), start = at::zeros({2}, at::kLong);
  expect_message([&] { d.step(qkv, k, v, good, start + 6); },
                 "decode_attention: positions: expected values in [0, P = 6), got 6 in row 0");
  expect_message([&] { d.step(qkv, k, v, good, start - 1); },
                 "decode_attention: positions: expected values in [0, P = 6), got -1 in row 0");
  expect_message([&] { d.step(qkv, k, v, good + 99, start); },
                 "decode_attention: block_table: expected blocks in [0, 7), got 99 in row 0");
  expect_message([&] { d.step(qkv, k, v, good - 1, start); },
                 "decode_attention: block_table: expected blocks in [0, 7), got -1 in row 0");
  expect_message([&] { d.step(qkv, k, v, good.narrow(1, 0, 1), start + 5); },
                 "decode_attention: block_table: expected room for position 5, got 1 blocks of 4");
  expect_message([&] { d.step(qkv, k.to(at::kFloat), v, good, start); },
                 "decode_attention: k_cache: expected Double, got Float");
}

}  // namespace
}  // namespace hone::kernels
