// Gradients of packed attention on tensor cores against the definition in plain double loops.

#include "tests/kernels/cuda/attention_problem.h"

namespace hone::kernels {
namespace {

using namespace test_attention;

/// d_qkv for a gradient of the output.
std::vector<double> expected_gradient(const Problem& p, const std::vector<double>& grad) {
  const auto& s = p.sizes;
  const int64_t d = s.head_dim, half = d / 2, width = s.width();
  std::vector<double> want(p.cu.back() * width);
  for (size_t b = 0; b + 1 < p.cu.size(); ++b) {
    const int64_t begin = p.cu[b], length = p.cu[b + 1] - begin;
    std::vector<double> turned((s.heads + s.kv_heads) * length * d), of_turned(turned.size());
    for (int64_t h = 0; h < s.heads + s.kv_heads; ++h) {
      for (int64_t i = 0; i < length * d; ++i) {
        turned[h * length * d + i] = p.rotated(begin + i / d, i / d, h, i % d);
      }
    }
    for (int64_t h = 0; h < s.heads; ++h) {
      const int64_t kv = h / s.group(), of_value = s.heads + s.kv_heads + kv;
      const int64_t q = h * length * d, k = (s.heads + kv) * length * d;
      for (int64_t i = 0; i < length; ++i) {
        const int64_t first = s.window > 0 ? std::max<int64_t>(0, i - s.window + 1) : 0;
        const double* g = grad.data() + ((begin + i) * s.heads + h) * d;
        std::vector<double> weight(i + 1), of_weight(i + 1);
        double sum = 0, delta = 0;
        for (int64_t j = first; j <= i; ++j) {
          double dot = 0;
          for (int64_t c = 0; c < d; ++c) dot += turned[q + i * d + c] * turned[k + j * d + c];
          sum += weight[j] = std::exp(dot * s.scale);
          for (int64_t c = 0; c < d; ++c) of_weight[j] += g[c] * p.at(begin + j, of_value, c);
        }
        for (int64_t j = first; j <= i; ++j) delta += weight[j] / sum * of_weight[j];
        for (int64_t j = first; j <= i; ++j) {
          const double w = weight[j] / sum, of_score = w * (of_weight[j] - delta) * s.scale;
          for (int64_t c = 0; c < d; ++c) {
            want[(begin + j) * width + of_value * d + c] += w * g[c];
            of_turned[q + i * d + c] += of_score * turned[k + j * d + c];
            of_turned[k + j * d + c] += of_score * turned[q + i * d + c];
          }
        }
      }
    }
    for (int64_t h = 0; h < s.heads + s.kv_heads; ++h) {
      for (int64_t i = 0; i < length; ++i) {
        const double* x = of_turned.data() + (h * length + i) * d;
        double* to = want.data() + (begin + i) * width + h * d;
        for (int64_t c = 0; c < half; ++c) {
          const double cosine = p.cos[i * half + c], sine = p.sin[i * half + c];
          to[c] = x[c] * cosine + x[c + half] * sine;
          to[c + half] = x[c + half] * cosine - x[c] * sine;
        }
      }
    }
  }
  return want;
}

std::vector<double> random_gradient(const Problem& p, unsigned seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<double> normal;
  std::vector<double> grad(p.cu.back() * p.sizes.heads * p.sizes.head_dim);
  for (double& x : grad) x = normal(rng);
  return widened(elements<Bfloat16>(grad));
}

std::vector<Bfloat16> run_backward(const Problem& p, const std::vector<double>& grad) {
  const Result forward = run(p);
  const int64_t tokens = p.cu.back(), sequences = static_cast<int64_t>(p.cu.size()) - 1;
  const test::Aligned<Bfloat16> qkv(elements<Bfloat16>(p.qkv), "qkv"), out(forward.out, "out");
  const test::Aligned<Bfloat16> gradient(elements<Bfloat16>(grad), "grad");
  const test::Aligned<Bfloat16> d_qkv(p.qkv.size(), "d_qkv");
  const GlobalBuffer<int64_t> cu(p.cu, "cu_seqlens");
  const test::Aligned<float> cos(elements<float>(p.cos), "cos"), sin(elements<float>(p.sin), "sin");
  const GlobalBuffer<float> lse(forward.lse, "lse");
  cuda::AttentionBackwardArgs args{{qkv.data(), cu.data(), cos.data(), sin.data(), out.data(),
                                    lse.data(), nullptr, tokens, sequences, p.sizes},
                                   gradient.data(),
                                   d_qkv.data()};
  const test::Aligned<float> workspace(
      cuda::attention_backward_workspace_bytes(args) / sizeof(float), "workspace");
  args.forward.workspace = workspace.data();
  EXPECT_EQ(cuda::launch_attention_backward(args, nullptr), cudaSuccess);
  return d_qkv.host();
}

/// Probabilities, gradients of scores and results are rounded to 8 bits.
void check(const Problem& p) {
  const std::vector<double> grad = random_gradient(p, 100);
  const std::vector<double> want = expected_gradient(p, grad);
  test::on_every_layout(
      [&] { test::expect_near(widened(run_backward(p, grad)), want, 3e-2, "d_qkv"); });
}

TEST(CudaAttentionBackward, RaggedSequences) {
  check({{2, 2, 16, 0, 0.25}, {1, 0, 63, 64, 0, 130}, 1});
  check({{4, 2, 32, 0, 0.2}, {0, 33, 31}, 2});
  check({{2, 1, 64, 0, 0.125}, {7, 70}, 3});
  check({{1, 1, 128, 0, 0.09}, {131}, 4});
}

TEST(CudaAttentionBackward, Windows) {
  check({{2, 1, 16, 1, 0.25}, {5, 70}, 5});
  check({{2, 1, 16, 7, 0.25}, {130, 3}, 6});
  check({{2, 2, 16, 65, 0.25}, {200}, 7});
  check({{1, 1, 64, 40, 0.125}, {140}, 8});
  check({{1, 1, 128, 20, 0.09}, {140}, 9});
}

TEST(CudaAttentionBackward, NoTokens) { check({{2, 1, 16, 0, 0.25}, {0, 0}, 11}); }

TEST(CudaAttentionBackward, ASequenceHasTheSameBitsInAnyPacking) {
  const cuda::AttentionSizes sizes{2, 1, 32, 0, 0.2};
  const Problem alone(sizes, {77}, 12);
  Problem packed(sizes, {10, 77, 100}, 13);
  std::copy(alone.qkv.begin(), alone.qkv.end(), packed.qkv.begin() + 10 * sizes.width());
  const std::vector<double> grad = random_gradient(alone, 101);
  std::vector<double> packed_grad = random_gradient(packed, 102);
  std::copy(grad.begin(), grad.end(), packed_grad.begin() + 10 * 2 * 32);
  const auto one = run_backward(alone, grad), three = run_backward(packed, packed_grad);
  for (size_t i = 0; i < one.size(); ++i) {
    ASSERT_EQ(one[i].bits, three[10 * sizes.width() + i].bits) << i;
  }
}

}  // namespace
}  // namespace hone::kernels
