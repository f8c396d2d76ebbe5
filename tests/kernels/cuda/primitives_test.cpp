// The primitives on fibers do what they say, and reductions and scans keep the order of the
// threads.

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "kernels/device/collectives.h"
#include "tests/kernels/cuda/device_run.h"
#include "tests/kernels/cuda/elements.h"

namespace hone::kernels {
namespace {

using namespace device;
using test::GlobalBuffer;

HONE_KERNEL(64) shuffle_kernel(int* up, int* down, int* across, int* from, unsigned* votes) {
  const int i = thread_index();
  up[i] = shuffle_up(i, 3);
  down[i] = shuffle_down(i, 5);
  across[i] = shuffle_xor(i, 6);
  from[i] = shuffle(i, 9);
  votes[i] = ballot(i % 3 == 0);
}

TEST(Primitives, ShufflesStayInTheWarp) {
  test::on_every_layout([] {
    const GlobalBuffer<int> up(64, "up"), down(64, "down"), across(64, "across"), from(64, "from");
    const GlobalBuffer<unsigned> votes(64, "votes");
    launch(shuffle_kernel, 1, 64, 0, nullptr, up.data(), down.data(), across.data(), from.data(),
           votes.data());
    for (int i = 0; i < 64; ++i) {
      const int lane = i % 32, warp = i - lane;
      EXPECT_EQ(up.host()[i], lane < 3 ? i : i - 3);
      EXPECT_EQ(down.host()[i], lane + 5 > 31 ? i : i + 5);
      EXPECT_EQ(across.host()[i], warp + (lane ^ 6));
      EXPECT_EQ(from.host()[i], warp + 9);
      unsigned want = 0;
      for (int k = 0; k < 32; ++k) want |= ((warp + k) % 3 == 0 ? 1u : 0u) << k;
      EXPECT_EQ(votes.host()[i], want);
    }
  });
}

/// x -> scale * x + offset: associative, not commutative.
struct Affine {
  int64_t scale, offset;
};
struct Compose {
  Affine operator()(const Affine& a, const Affine& b) const {
    constexpr int64_t kPrime = 1000003;
    return {a.scale * b.scale % kPrime, (b.scale * a.offset + b.offset) % kPrime};
  }
};

template <int kThreads>
HONE_KERNEL(kThreads)
scan_kernel(const Affine* x, Affine* total, Affine* before, Affine* whole) {
  const Affine mine = x[thread_index()];
  total[thread_index()] = block_reduce<kThreads>(mine, Compose{});
  const auto scan = block_scan<kThreads>(mine, Affine{1, 0}, Compose{});
  before[thread_index()] = scan.before;
  whole[thread_index()] = scan.total;
}

template <int kThreads>
void check_order() {
  std::mt19937 rng(kThreads);
  std::vector<Affine> x(kThreads);
  for (Affine& map : x) {
    map = {1 + static_cast<int64_t>(rng() % 1000), static_cast<int64_t>(rng() % 1000)};
  }
  test::on_every_layout([&] {
    const GlobalBuffer<Affine> in(x, "x"), total(kThreads, "total"), before(kThreads, "before"),
        whole(kThreads, "whole");
    launch(scan_kernel<kThreads>, 1, kThreads, 0, nullptr, in.data(), total.data(), before.data(),
           whole.data());
    Affine running{1, 0};
    for (int i = 0; i < kThreads; ++i) {
      EXPECT_EQ(before.host()[i].scale, running.scale) << i;
      EXPECT_EQ(before.host()[i].offset, running.offset) << i;
      running = Compose{}(running, x[i]);
    }
    for (int i = 0; i < kThreads; ++i) {
      EXPECT_EQ(total.host()[i].offset, running.offset) << i;
      EXPECT_EQ(whole.host()[i].offset, running.offset) << i;
    }
  });
}

TEST(Collectives, KeepTheOrderOfTheThreads) {
  check_order<32>();
  check_order<96>();
  check_order<256>();
  check_order<1024>();
}

HONE_KERNEL(32) product_kernel(const float* a, const float* b, const float* c, float* d) {
  const int g = lane() / 4, t = lane() % 4;
  MatrixA left;
  MatrixB right;
  MatrixD sum;
  for (int w = 0; w < 4; ++w) {
    const float* x = a + (g + w % 2 * 8) * 16 + w / 2 * 8 + 2 * t;
    left.word[w] = pack_bfloat16(x[0], x[1]);
  }
  for (int w = 0; w < 2; ++w) {
    const float* x = b + (w * 8 + 2 * t) * 8 + g;
    right.word[w] = pack_bfloat16(x[0], x[8]);
  }
  for (int i = 0; i < 4; ++i) sum.value[i] = c[(g + i / 2 * 8) * 8 + 2 * t + i % 2];
  multiply_add(sum, left, right);
  for (int i = 0; i < 4; ++i) d[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sum.value[i];
}

/// Small integers: bfloat16 holds them and float32 their sums, so the product is exact.
TEST(Primitives, MultiplyAddIsTheMatrixProduct) {
  std::mt19937 rng(3);
  std::vector<float> a(16 * 16), b(16 * 8), c(16 * 8);
  for (auto* x : {&a, &b, &c}) {
    for (float& value : *x) value = static_cast<float>(static_cast<int>(rng() % 17) - 8);
  }
  const GlobalBuffer<float> left(a, "a"), right(b, "b"), start(c, "c"), out(16 * 8, "d");
  launch(product_kernel, 1, 32, 0, nullptr, left.data(), right.data(), start.data(), out.data());
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 8; ++j) {
      float want = c[i * 8 + j];
      for (int k = 0; k < 16; ++k) want += a[i * 16 + k] * b[k * 8 + j];
      EXPECT_EQ(out.host()[i * 8 + j], want) << i << "," << j;
    }
  }
}

HONE_KERNEL(32) matrices_kernel(const uint16_t* x, uint32_t* plain, uint32_t* transposed) {
  HONE_SHARED(uint16_t, tile, 32 * 8);
  for (int i = 0; i < 8; ++i) tile[lane() * 8 + i] = x[lane() * 8 + i];
  warp_barrier();
  const MatrixA p = load_matrices(tile, lane() * 8), q = load_matrices_transposed(tile, lane() * 8);
  for (int m = 0; m < 4; ++m) {
    plain[m * 32 + lane()] = p.word[m];
    transposed[m * 32 + lane()] = q.word[m];
  }
}

TEST(Primitives, LoadMatricesGivesEachLaneItsTwoNeighbours) {
  std::vector<uint16_t> x(32 * 8);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<uint16_t>(i);
  const GlobalBuffer<uint16_t> in(x, "x");
  const GlobalBuffer<uint32_t> plain(128, "plain"), transposed(128, "transposed");
  launch(matrices_kernel, 1, 32, 0, nullptr, in.data(), plain.data(), transposed.data());
  for (uint32_t m = 0; m < 4; ++m) {
    for (uint32_t lane = 0; lane < 32; ++lane) {
      const uint32_t g = lane / 4, t = lane % 4, matrix = 64 * m;
      const uint32_t along = matrix + 8 * g + 2 * t, down = matrix + 8 * (2 * t) + g;
      EXPECT_EQ(plain.host()[m * 32 + lane], along | (along + 1) << 16);
      EXPECT_EQ(transposed.host()[m * 32 + lane], down | (down + 8) << 16);
    }
  }
}

HONE_KERNEL(32) copy_groups_kernel(const float* x, float* y) {
  HONE_SHARED(float, tile, 2 * 32 * 4);
  const int mine = 4 * lane();
  copy_async(tile, mine, x + mine, true);
  copy_async_commit();
  copy_async(tile, 128 + mine, x + 128 + mine, lane() % 2 == 0);
  copy_async_commit();
  copy_async_wait<1>();
  for (int i = 0; i < 4; ++i) y[mine + i] = tile[mine + i];
  copy_async_wait<0>();
  for (int i = 0; i < 4; ++i) y[128 + mine + i] = tile[128 + mine + i];
}

TEST(Primitives, CopiesArriveByGroupsAndAreZeroWhereThereIsNothing) {
  std::vector<float> x(256);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i + 1);
  const test::Aligned<float> in(x, "x");
  const GlobalBuffer<float> y(256, "y");
  launch(copy_groups_kernel, 1, 32, 0, nullptr, in.data(), y.data());
  for (size_t i = 0; i < x.size(); ++i) {
    EXPECT_EQ(y.host()[i], i >= 128 && i / 4 % 2 == 1 ? 0.0f : x[i]) << i;
  }
}

HONE_KERNEL(64) ticket_kernel(unsigned* counter, int64_t* order) {
  HONE_SHARED(unsigned, ticket, 1);
  if (thread_index() == 0) ticket[0] = atomic_add(counter, 1u);
  barrier();
  if (thread_index() == 63) order[block_index()] = ticket[0];
}

TEST(Primitives, TicketsCountTheBlocks) {
  test::on_every_layout([] {
    const GlobalBuffer<unsigned> counter(std::vector<unsigned>{0}, "counter");
    const GlobalBuffer<int64_t> order(50, "order");
    launch(ticket_kernel, 50, 64, 0, nullptr, counter.data(), order.data());
    std::vector<bool> seen(50);
    for (const int64_t ticket : order.host()) seen[ticket] = true;
    for (int i = 0; i < 50; ++i) EXPECT_TRUE(seen[i]) << i;
    EXPECT_EQ(counter.host()[0], 50u);
  });
}

TEST(Primitives, PowersOfTwo) {
  for (const double x : {0.0, 1.0, -3.5, 10.25, -125.0}) {
    EXPECT_DOUBLE_EQ(exp2_approximate(x), std::exp2(x));
    EXPECT_FLOAT_EQ(exp2_approximate(static_cast<float>(x)), static_cast<float>(std::exp2(x)));
  }
  EXPECT_EQ(exp2_approximate(-130.0f), 0.0f);
  EXPECT_EQ(exp2_approximate(-std::numeric_limits<float>::infinity()), 0.0f);
  EXPECT_TRUE(std::isnan(exp2_approximate(std::numeric_limits<float>::quiet_NaN())));
}

TEST(Bfloat16, RoundsToNearestEven) {
  const auto rounded = [](float x) {
    math::Bfloat16 out;
    math::narrow(x, out);
    return out.bits;
  };
  EXPECT_EQ(rounded(1.0f), 0x3F80);
  EXPECT_EQ(rounded(1.0f + 0x1.0p-8f), 0x3F80);               // half way: to even
  EXPECT_EQ(rounded(1.0f + 0x1.8p-7f), 0x3F82);               // half way: to even
  EXPECT_EQ(rounded(1.0f + 0x1.0p-8f + 0x1.0p-20f), 0x3F81);  // above half way
  EXPECT_EQ(rounded(3.4e38f), 0x7F80);                        // rounds up to infinity
  EXPECT_EQ(rounded(-INFINITY), 0xFF80);
  EXPECT_TRUE(std::isnan(math::widen(math::Bfloat16{rounded(NAN)})));
  EXPECT_EQ(pack_bfloat16(1.0f, -2.0f), 0xC0003F80u);
}

}  // namespace
}  // namespace hone::kernels
