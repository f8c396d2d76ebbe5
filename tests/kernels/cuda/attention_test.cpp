// Packed attention on tensor cores against the definition in plain double loops.

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "kernels/cuda/attention_launchers.h"
#include "tests/kernels/cuda/device_run.h"
#include "tests/kernels/cuda/elements.h"

namespace hone::kernels {
namespace {

using math::Bfloat16;
using test::elements;
using test::GlobalBuffer;
using test::widened;

struct Problem {
  cuda::AttentionSizes sizes;
  std::vector<int64_t> cu{0};
  std::vector<double> qkv, cos, sin;

  Problem(cuda::AttentionSizes sizes_in, const std::vector<int64_t>& lengths, unsigned seed)
      : sizes(sizes_in) {
    std::mt19937 rng(seed);
    std::normal_distribution<double> normal;
    int64_t longest = 0;
    for (const int64_t n : lengths) {
      cu.push_back(cu.back() + n);
      longest = std::max(longest, n);
    }
    qkv.resize(cu.back() * sizes.width());
    for (double& x : qkv) x = normal(rng);
    for (int64_t p = 0; p < longest; ++p) {
      for (int64_t i = 0; i < sizes.head_dim / 2; ++i) {
        const double angle = static_cast<double>(p) / std::pow(100.0, 2.0 * i / sizes.head_dim);
        cos.push_back(std::cos(angle));
        sin.push_back(std::sin(angle));
      }
    }
    // What the kernel really gets.
    qkv = widened(elements<Bfloat16>(qkv));
    cos = widened(elements<float>(cos));
    sin = widened(elements<float>(sin));
  }

  /// Element `column` of head `head` (queries, then keys, then values) of a token.
  double at(int64_t token, int64_t head, int64_t column) const {
    return qkv[token * sizes.width() + head * sizes.head_dim + column];
  }
  /// Rotated, and rounded as the kernel rounds what it multiplies.
  double rotated(int64_t token, int64_t position, int64_t head, int64_t column) const {
    const int64_t half = sizes.head_dim / 2, i = column % half;
    const double c = cos[position * half + i], s = sin[position * half + i];
    const double x = at(token, head, i), y = at(token, head, i + half);
    const double value = column < half ? x * c - y * s : y * c + x * s;
    return widened(elements<Bfloat16>({value}))[0];
  }
};

struct Expected {
  std::vector<double> out, lse;
};

Expected expected(const Problem& p) {
  const auto& s = p.sizes;
  const int64_t tokens = p.cu.back(), d = s.head_dim;
  Expected want{std::vector<double>(tokens * s.heads * d), std::vector<double>(s.heads * tokens)};
  for (size_t b = 0; b + 1 < p.cu.size(); ++b) {
    const int64_t begin = p.cu[b], length = p.cu[b + 1] - begin;
    std::vector<double> turned((s.heads + s.kv_heads) * length * d);
    for (int64_t h = 0; h < s.heads + s.kv_heads; ++h) {
      for (int64_t i = 0; i < length * d; ++i) {
        turned[h * length * d + i] = p.rotated(begin + i / d, i / d, h, i % d);
      }
    }
    for (int64_t h = 0; h < s.heads; ++h) {
      const int64_t kv = h / s.group();
      const double* q = turned.data() + h * length * d;
      const double* k = turned.data() + (s.heads + kv) * length * d;
      for (int64_t i = 0; i < length; ++i) {
        const int64_t first = s.window > 0 ? std::max<int64_t>(0, i - s.window + 1) : 0;
        std::vector<double> value(d);
        double sum = 0;
        for (int64_t j = first; j <= i; ++j) {
          double dot = 0;
          for (int64_t c = 0; c < d; ++c) dot += q[i * d + c] * k[j * d + c];
          const double weight = std::exp(dot * s.scale);
          sum += weight;
          for (int64_t c = 0; c < d; ++c) {
            value[c] += weight * p.at(begin + j, s.heads + s.kv_heads + kv, c);
          }
        }
        for (int64_t c = 0; c < d; ++c) {
          want.out[((begin + i) * s.heads + h) * d + c] = value[c] / sum;
        }
        want.lse[h * tokens + begin + i] = std::log(sum);
      }
    }
  }
  return want;
}

struct Result {
  std::vector<Bfloat16> out;
  std::vector<float> lse;
};

Result run(const Problem& p) {
  const int64_t tokens = p.cu.back();
  const test::Aligned<Bfloat16> qkv(elements<Bfloat16>(p.qkv), "qkv");
  const GlobalBuffer<int64_t> cu(p.cu, "cu_seqlens");
  const GlobalBuffer<float> cos(elements<float>(p.cos), "cos"), sin(elements<float>(p.sin), "sin");
  const GlobalBuffer<Bfloat16> out(tokens * p.sizes.heads * p.sizes.head_dim, "out");
  const GlobalBuffer<float> lse(p.sizes.heads * tokens, "lse");
  const int64_t sequences = static_cast<int64_t>(p.cu.size()) - 1;
  cuda::AttentionArgs args{qkv.data(), cu.data(), cos.data(), sin.data(), out.data(),
                           lse.data(), nullptr,   tokens,     sequences,  p.sizes};
  const test::Aligned<int64_t> workspace(cuda::attention_workspace_bytes(args) / sizeof(int64_t),
                                         "workspace");
  args.workspace = workspace.data();
  EXPECT_EQ(cuda::launch_attention(args, nullptr), cudaSuccess);
  return {out.host(), lse.host()};
}

/// Probabilities and results are rounded to 8 bits; a rotation in float32 may round to the other
/// neighbour than one in double.
void check(const Problem& p) {
  const Expected want = expected(p);
  test::on_every_layout([&] {
    const Result got = run(p);
    test::expect_near(widened(got.out), want.out, 1e-2, "out");
    test::expect_near(widened(got.lse), want.lse, 1e-3, "lse");
  });
}

TEST(CudaAttention, RaggedSequences) {
  check({{2, 2, 16, 0, 0.25}, {1, 0, 63, 64, 65, 0, 130}, 1});
  check({{4, 2, 32, 0, 0.2}, {0, 33, 31}, 2});
  check({{3, 1, 64, 0, 0.125}, {100, 7}, 3});
  check({{1, 1, 128, 0, 0.09}, {17, 70}, 4});
}

TEST(CudaAttention, Windows) {
  check({{2, 1, 16, 1, 0.25}, {5, 70}, 5});
  check({{2, 1, 16, 7, 0.25}, {130, 3}, 6});
  check({{2, 2, 16, 65, 0.25}, {200}, 7});
}

TEST(CudaAttention, MoreSequencesThanThreads) {
  check({{1, 1, 16, 0, 0.25}, std::vector<int64_t>(259, 1), 8});
}

TEST(CudaAttention, NoTokens) { check({{2, 1, 16, 0, 0.25}, {0, 0}, 9}); }

/// Rows of large scores: the running maximum must carry them.
TEST(CudaAttention, LargeScores) {
  Problem p({1, 1, 16, 0, 20.0}, {90}, 10);
  const Result got = run(p);
  for (const double x : widened(got.out)) EXPECT_TRUE(std::isfinite(x));
  for (const double x : widened(got.lse)) EXPECT_TRUE(std::isfinite(x));
}

TEST(CudaAttention, ASequenceHasTheSameBitsInAnyPacking) {
  const Problem alone({2, 1, 32, 0, 0.2}, {77}, 11);
  Problem packed({2, 1, 32, 0, 0.2}, {10, 77, 100}, 12);
  std::copy(alone.qkv.begin(), alone.qkv.end(), packed.qkv.begin() + 10 * packed.sizes.width());
  const Result one = run(alone), three = run(packed);
  for (size_t i = 0; i < one.out.size(); ++i) {
    EXPECT_EQ(one.out[i].bits, three.out[10 * 2 * 32 + i].bits);
  }
}

TEST(CudaAttention, OtherHeadsAreRefused) {
  cuda::AttentionArgs args{};
  args.tokens = 1;
  for (const int64_t head_dim : {8, 24, 48, 256}) {
    args.sizes = {2, 1, head_dim, 0, 0.1};
    EXPECT_FALSE(cuda::attention_takes(args));
    EXPECT_EQ(cuda::launch_attention(args, nullptr), cudaErrorInvalidValue);
  }
}

}  // namespace
}  // namespace hone::kernels
