// The GPU computes advantages as a scan of affine maps over tiles of the packed stream. The algebra
// of that scan (compose, entry_map, segment ends) is host code too: here it runs tile by tile, as
// kernels/cuda/advantages.cu does, and must give what the CPU op gives.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "kernels/math/advantages.h"
#include "kernels/ops.h"

namespace hone::kernels {
namespace {

using Map = math::TraceMap<double>;

TEST(AdvantageScan, TilesOfMapsGiveTheSerialResult) {
  std::mt19937 rng(1);
  std::normal_distribution<double> normal;
  for (int round = 0; round < 300; ++round) {
    std::vector<int64_t> cu = {0}, scored;
    const int64_t rows = 1 + rng() % 7;
    for (int64_t i = 0; i < rows; ++i) {
      cu.push_back(cu.back() + (rng() % 3 ? static_cast<int64_t>(rng() % 30) : 0));
    }
    const int64_t n = cu.back(), tile = 1 + rng() % 9;
    const auto draw = [&](int64_t size) { return at::randn({size}, at::kDouble); };
    const Tensor old = draw(n), ref = draw(n), values = draw(n), scores = draw(rows);
    const Tensor mask = (at::rand({n}) < 0.7).to(at::kByte);
    AdvantageOptions o;
    o.kl_coef = 0.1;
    o.gamma = 0.97;
    o.placement = round % 2 ? "last" : "after_last";
    const Advantages want =
        advantages(old, ref, values, scores, at::tensor(cu, at::kLong), mask, o);

    const Tensor out = at::zeros({3, n}, at::kDouble);
    const math::AdvantageParams<double> p{
        o.kl_coef, kNoClamp, o.gamma, o.lambda, math::KlEstimator::kK1, round % 2 == 0};
    const math::AdvantageRows<double> a{old.data_ptr<double>(),
                                        ref.data_ptr<double>(),
                                        values.data_ptr<double>(),
                                        scores.data_ptr<double>(),
                                        cu.data(),
                                        mask.data_ptr<uint8_t>(),
                                        nullptr,
                                        out.data_ptr<double>(),
                                        out.data_ptr<double>() + n,
                                        out.data_ptr<double>() + 2 * n,
                                        n,
                                        rows};
    for (int64_t r = 0; r < rows; ++r) {
      scored.push_back(math::score_entry(a.mask, cu[r], cu[r + 1], p.after_last));
    }
    const auto row_of = [&](int64_t t) {
      return std::upper_bound(cu.begin(), cu.end(), t) - cu.begin() - 1;
    };
    const auto step_at = [&](int64_t t) {
      return math::load_step(a, row_of(t), t, scored[row_of(t)], p);
    };
    const auto ends_row = [&](int64_t t) { return t + 1 == cu[row_of(t) + 1]; };

    math::AdvantageStats stats;
    Map entering{0, 0};  // nothing after the stream
    for (int64_t k = (n + tile - 1) / tile - 1; k >= 0; --k) {
      const int64_t begin = k * tile, end = std::min(n, begin + tile);
      Map whole{0, 1};
      for (int64_t t = end - 1; t >= begin; --t) {
        // What thread t sees: the tile's later part after whatever enters the tile.
        const double next = math::compose(entering, whole).offset;
        math::store_step(a, t, step_at(t), ends_row(t) ? 0.0 : next, p, stats);
        whole = math::compose(whole, math::entry_map(step_at(t), ends_row(t), p));
      }
      entering = math::compose(entering, whole);
    }
    EXPECT_TRUE(at::allclose(out[0], want.advantages, 1e-12, 1e-12)) << round;
    EXPECT_TRUE(at::allclose(out[1], want.returns, 1e-12, 1e-12)) << round;
    EXPECT_TRUE(at::equal(out[2], want.rewards)) << round;
    EXPECT_NEAR(stats.sum, want.stats[0].item<double>(), 1e-11);
    EXPECT_EQ(stats.count, want.stats[2].item<double>());
  }
}

}  // namespace
}  // namespace hone::kernels
