// decode_attention against the definition in plain double loops, and its caches.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "kernels/cuda/attention_launchers.h"
#include "tests/kernels/cuda/device_run.h"
#include "tests/kernels/cuda/elements.h"

namespace hone::kernels {
namespace {

using math::Compute;
using test::GlobalBuffer;

/// One call: heads, context and caches of random numbers; blocks of a row scattered over the cache.
struct Problem {
  cuda::AttentionSizes sizes;
  int64_t block_size, max_blocks;
  std::vector<int64_t> positions;
  std::vector<int32_t> table;
  std::vector<double> qkv, k, v, cos, sin;

  Problem(cuda::AttentionSizes sizes_in, int64_t block_size_in, int64_t max_blocks_in,
          std::vector<int64_t> positions_in, unsigned seed)
      : sizes(sizes_in),
        block_size(block_size_in),
        max_blocks(max_blocks_in),
        positions(std::move(positions_in)) {
    std::mt19937 rng(seed);
    std::normal_distribution<double> normal;
    const auto fill = [&](std::vector<double>& x, int64_t n) {
      x.resize(n);
      for (double& value : x) value = normal(rng);
    };
    const int64_t rows = positions.size(), blocks = rows * max_blocks + 2;
    table.resize(blocks);
    for (int64_t i = 0; i < blocks; ++i) table[i] = static_cast<int32_t>(i);
    std::shuffle(table.begin(), table.end(), rng);
    table.resize(rows * max_blocks);
    fill(qkv, rows * sizes.width());
    fill(k, blocks * block_size * sizes.kv_heads * sizes.head_dim);
    fill(v, k.size());
    const int64_t half = sizes.head_dim / 2;
    for (int64_t p = 0; p < max_blocks * block_size; ++p) {
      for (int64_t i = 0; i < half; ++i) {
        const double angle =
            static_cast<double>(p) / std::pow(100.0, i / static_cast<double>(half));
        cos.push_back(std::cos(angle));
        sin.push_back(std::sin(angle));
      }
    }
  }

  int64_t rows() const { return positions.size(); }
  /// Where in a cache the element `column` of key `key` of a row stands.
  int64_t at(int64_t row, int64_t key, int64_t head, int64_t column) const {
    const int64_t slot = table[row * max_blocks + key / block_size] * block_size + key % block_size;
    return (slot * sizes.kv_heads + head) * sizes.head_dim + column;
  }
  double rotated(const double* x, int64_t position, int64_t column) const {
    const int64_t half = sizes.head_dim / 2, i = column % half;
    const double c = cos[position * half + i], s = sin[position * half + i];
    return column < half ? x[i] * c - x[i + half] * s : x[i + half] * c + x[i] * s;
  }
};

struct Expected {
  std::vector<double> k, v, out;
};

Expected expected(const Problem& p) {
  const auto& s = p.sizes;
  Expected want{p.k, p.v, std::vector<double>(p.rows() * s.heads * s.head_dim)};
  for (int64_t r = 0; r < p.rows(); ++r) {
    for (int64_t h = 0; h < s.kv_heads; ++h) {
      const double* k = p.qkv.data() + r * s.width() + (s.heads + h) * s.head_dim;
      for (int64_t c = 0; c < s.head_dim; ++c) {
        want.k[p.at(r, p.positions[r], h, c)] = p.rotated(k, p.positions[r], c);
        want.v[p.at(r, p.positions[r], h, c)] = k[s.kv_heads * s.head_dim + c];
      }
    }
  }
  for (int64_t r = 0; r < p.rows(); ++r) {
    for (int64_t h = 0; h < s.heads; ++h) {
      const double* q = p.qkv.data() + r * s.width() + h * s.head_dim;
      const int64_t kv = h / s.group(), position = p.positions[r];
      std::vector<double> weight;
      double sum = 0;
      const int64_t first = s.window > 0 ? std::max<int64_t>(0, position - s.window + 1) : 0;
      for (int64_t key = first; key <= position; ++key) {
        double dot = 0;
        for (int64_t c = 0; c < s.head_dim; ++c) {
          dot += p.rotated(q, position, c) * want.k[p.at(r, key, kv, c)];
        }
        weight.push_back(std::exp(dot * s.scale));
        sum += weight.back();
      }
      for (int64_t c = 0; c < s.head_dim; ++c) {
        double value = 0;
        for (int64_t key = first; key <= position; ++key) {
          value += weight[key - first] * want.v[p.at(r, key, kv, c)];
        }
        want.out[(r * s.heads + h) * s.head_dim + c] = value / sum;
      }
    }
  }
  return want;
}

template <typename T>
class CudaDecodeAttention : public ::testing::Test {
 protected:
  static constexpr double kTolerance =
      std::is_same_v<T, double> ? 1e-12 : (std::is_same_v<T, float> ? 2e-5 : 4e-2);

  static void check(Problem p) {
    // What the kernel really gets: the numbers rounded to its type.
    for (auto* x : {&p.qkv, &p.k, &p.v}) *x = test::widened(test::elements<T>(*x));
    for (auto* x : {&p.cos, &p.sin}) *x = test::widened(test::elements<Compute<T>>(*x));
    const Expected want = expected(p);
    test::on_every_layout([&] {
      const GlobalBuffer<T> qkv(test::elements<T>(p.qkv), "qkv");
      const test::Aligned<T> k(test::elements<T>(p.k), "k_cache"),
          v(test::elements<T>(p.v), "v_cache");
      const GlobalBuffer<int32_t> table(p.table, "block_table");
      const GlobalBuffer<int64_t> positions(p.positions, "positions");
      const GlobalBuffer<Compute<T>> cos(test::elements<Compute<T>>(p.cos), "cos"),
          sin(test::elements<Compute<T>>(p.sin), "sin");
      const GlobalBuffer<T> out(want.out.size(), "out");
      cuda::DecodeArgs<T> args{
          qkv.data(), k.data(), v.data(), table.data(), positions.data(), cos.data(), sin.data(),
          out.data(), nullptr,  p.rows(), p.max_blocks, p.block_size,     p.sizes};
      const test::Aligned<Compute<T>> workspace(
          cuda::decode_workspace_bytes(args) / sizeof(Compute<T>), "workspace");
      args.workspace = workspace.data();
      ASSERT_EQ(cuda::launch_decode_attention(args, nullptr), cudaSuccess);
      test::expect_near(test::widened(out.host()), want.out, kTolerance, "out");
      test::expect_near(test::widened(k.host()), want.k, kTolerance, "k_cache");
      test::expect_near(test::widened(v.host()), want.v, 0.0, "v_cache");
    });
  }
};
using Types = ::testing::Types<float, double, math::Bfloat16>;
TYPED_TEST_SUITE(CudaDecodeAttention, Types);

TYPED_TEST(CudaDecodeAttention, ShortContexts) {
  // Heads of each kind: alone, groups of 2, 3, 4, 7 and 10 (two pieces), widths that are no power
  // of two.
  this->check({{1, 1, 16, 0, 0.3}, 4, 5, {0, 1, 19}, 1});
  this->check({{4, 2, 32, 0, 0.2}, 16, 2, {0, 31, 15, 16}, 2});
  this->check({{6, 2, 48, 0, 0.2}, 3, 5, {14, 2}, 3});
  this->check({{8, 2, 16, 5, 0.25}, 8, 4, {3, 4, 5, 31}, 4});
  this->check({{7, 1, 32, 0, 0.2}, 16, 1, {9}, 5});
  this->check({{20, 2, 16, 1, 0.25}, 1, 9, {8, 0}, 6});
}

TYPED_TEST(CudaDecodeAttention, ContextsOfSeveralChunks) {
  this->check({{4, 2, 16, 0, 0.25}, 16, 40, {255, 256, 257, 639}, 7});
  this->check({{2, 2, 16, 300, 0.25}, 7, 93, {0, 299, 300, 650}, 8});
  this->check({{8, 1, 16, 2, 0.25}, 32, 17, {512, 511, 513}, 9});
}

/// What bfloat16 computes on tensor cores: groups in pieces of 8, windows, chunks that are not
/// full.
TYPED_TEST(CudaDecodeAttention, HeadsOfModels) {
  this->check({{4, 1, 64, 0, 0.125}, 16, 6, {0, 95, 17}, 12});
  this->check({{9, 1, 64, 100, 0.125}, 16, 20, {318, 99}, 13});
  const int64_t wide = std::is_same_v<TypeParam, double> ? 64 : 128;
  this->check({{2, 2, wide, 0, 0.09}, 7, 40, {270, 3}, 14});
}

/// Rows that are tokens of one sequence see each other's keys.
TYPED_TEST(CudaDecodeAttention, APieceOfAPrompt) {
  for (const int64_t head_dim : {16, 64}) {
    Problem p({4, 2, head_dim, 0, 0.125}, 16, 4, {40, 41, 42, 43}, 15);
    for (int64_t row = 1; row < p.rows(); ++row) {
      std::copy_n(p.table.begin(), p.max_blocks, p.table.begin() + row * p.max_blocks);
    }
    this->check(p);
  }
}

TYPED_TEST(CudaDecodeAttention, TheWidestHeads) {
  const int64_t widest = 512 / sizeof(TypeParam);
  this->check({{2, 1, widest, 0, 0.1}, 16, 2, {30, 7}, 10});
  cuda::DecodeArgs<TypeParam> args{};
  const auto takes = [&](int64_t head_dim) {
    args.sizes = {2, 1, head_dim, 0, 0.1};
    return cuda::decode_takes(args);
  };
  EXPECT_TRUE(takes(widest));
  EXPECT_FALSE(takes(widest + 16));
  EXPECT_FALSE(takes(14));
  EXPECT_EQ(cuda::launch_decode_attention(args, nullptr), cudaErrorInvalidValue);
}

TYPED_TEST(CudaDecodeAttention, NoRows) { this->check({{2, 1, 16, 0, 0.3}, 4, 5, {}, 11}); }

}  // namespace
}  // namespace hone::kernels
