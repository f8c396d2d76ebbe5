// Packed attention on tensor cores against the definition in plain double loops.

#include "tests/kernels/cuda/attention_problem.h"

namespace hone::kernels {
namespace {

using namespace test_attention;

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
