// The GPU computes advantages as a scan of affine maps over tiles of the stream. The algebra of
// that scan (compose, entry_map, segment ends) is host code too: here it runs tile by tile, under
// both rules, and must give what the CPU op gives.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "kernels/advantage_rows.h"
#include "kernels/math/gae.h"
#include "kernels/math/vtrace.h"
#include "tests/kernels/advantage_reference.h"

namespace hone::kernels {
namespace {

template <class Rule>
math::AdvantageStats scan_in_tiles(const math::AdvantageRows<double>& a,
                                   const math::AdvantageParams<double>& p, int64_t tile) {
  std::vector<int64_t> scored, row_of;
  for (int64_t row = 0; row < a.sequences; ++row) {
    scored.push_back(math::score_entry(a, row, p.after_last));
    for (int64_t t = a.begin(row); t < a.end(row); ++t) row_of.push_back(row);
  }
  math::AdvantageStats stats;
  auto entering = Rule::constant(Rule::start(0));  // nothing after the stream
  for (int64_t k = (a.tokens + tile - 1) / tile - 1; k >= 0; --k) {
    auto whole = Rule::identity();
    for (int64_t t = std::min(a.tokens, (k + 1) * tile) - 1; t >= k * tile; --t) {
      const int64_t row = row_of[t];
      const bool ends_row = t + 1 == a.end(row);
      const auto step = math::load_step(a, row, t, scored[row], p);
      // What thread t sees: the tile's later part after whatever enters the tile.
      const auto next = ends_row ? Rule::start(a.value_after(row))
                                 : Rule::value_of(math::compose(entering, whole));
      math::store_step(a, t, step, Rule::result(step, next, p), stats);
      whole = math::compose(whole, math::entry_map<Rule>(a, row, step, ends_row, p));
    }
    entering = math::compose(entering, whole);
  }
  return stats;
}

TEST(AdvantageScan, TilesOfMapsGiveTheSerialResult) {
  std::mt19937 rng(1);
  for (int round = 0; round < 1000; ++round) {
    const test::Case c = test::random_case(rng, 1 + static_cast<int64_t>(rng() % 7), 30);
    const test::CaseTensors t(c, at::kDouble, round % 3);
    const Advantages want = t.run(c.options);
    const AdvantageOptions& o = c.options;
    const auto settings = advantage_settings(o.kl_coef, o.kl_estimator, o.kl_clamp, o.placement,
                                             o.estimator, o.gamma, o.lambda, o.rho_clip, o.c_clip);
    const auto in = check_advantages(
        {t.old, t.ref, t.values, t.scores, t.cu_seqlens, t.mask, t.extras.lengths,
         t.extras.token_rewards, t.extras.logp_behaviour, t.extras.bootstrap_values},
        settings);
    const auto fresh = [&] { return at::full_like(want.returns, 7); };
    const AdvantageOutputs out{fresh(), fresh(), fresh(), {}};
    const auto rows = advantage_rows<double>(in, out);
    const auto tile = 1 + static_cast<int64_t>(rng() % 9);
    const auto stats = settings.vtrace
                           ? scan_in_tiles<math::Vtrace<double>>(rows, settings.params, tile)
                           : scan_in_tiles<math::Gae<double>>(rows, settings.params, tile);
    EXPECT_TRUE(at::allclose(out.advantages, want.advantages, 1e-11, 1e-11)) << round;
    EXPECT_TRUE(at::allclose(out.returns, want.returns, 1e-11, 1e-11)) << round;
    EXPECT_TRUE(at::allclose(out.rewards, want.rewards, 1e-14, 1e-14)) << round;
    EXPECT_NEAR(stats.sum, want.stats[0].item<double>(), 1e-10);
    EXPECT_EQ(stats.count, want.stats[2].item<double>());
    if (::testing::Test::HasFailure()) return;
  }
}

}  // namespace
}  // namespace hone::kernels
