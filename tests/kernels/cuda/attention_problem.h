#pragma once

// Packed attention on random numbers: the definition in plain double loops, and the launches.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "kernels/cuda/attention_launchers.h"
#include "tests/kernels/cuda/device_run.h"
#include "tests/kernels/cuda/elements.h"

namespace hone::kernels::test_attention {

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

inline Expected expected(const Problem& p) {
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

inline Result run(const Problem& p) {
  const int64_t tokens = p.cu.back();
  const test::Aligned<Bfloat16> qkv(elements<Bfloat16>(p.qkv), "qkv");
  const GlobalBuffer<int64_t> cu(p.cu, "cu_seqlens");
  const test::Aligned<float> cos(elements<float>(p.cos), "cos"), sin(elements<float>(p.sin), "sin");
  const test::Aligned<Bfloat16> out(tokens * p.sizes.heads * p.sizes.head_dim, "out");
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

}  // namespace hone::kernels::test_attention
