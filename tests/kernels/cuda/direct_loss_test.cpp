// The direct, KTO and ranking loss kernels against the CPU ops.

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/cuda/loss_launchers.h"
#include "kernels/loss_options.h"
#include "kernels/ops.h"
#include "tests/kernels/cuda/device_run.h"
#include "tests/support/expect_close.h"

namespace hone::kernels {
namespace {

using test::expect_close;
using test::from_device;
using test::GlobalBuffer;
using test::on_device;

template <typename T>
class CudaDirectLoss : public ::testing::Test {
 protected:
  static constexpr auto kType = c10::CppTypeToScalarType<T>::value;
  static constexpr double kTolerance = kType == at::kFloat ? 2e-5 : 1e-13;

  static at::TensorOptions options() { return at::TensorOptions().dtype(kType); }
  static GlobalBuffer<double> workspace() {
    return GlobalBuffer<double>(cuda::sum_workspace_bytes() / sizeof(double), "workspace");
  }
};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(CudaDirectLoss, Types);

TYPED_TEST(CudaDirectLoss, IsTheCpuOpForEveryKind) {
  using T = TypeParam;
  at::manual_seed(1);
  for (const std::string kind :
       {"dpo", "robust_dpo", "ipo", "ipo_mean", "hinge", "simpo", "orpo", "cpo"}) {
    for (const int64_t n : {0, 1, 33, 300}) {
      SCOPED_TRACE(kind + " " + std::to_string(n));
      DirectLossOptions o;
      o.kind = kind;
      if (kind == "dpo" || kind == "robust_dpo") o.label_smoothing = 0.1;
      const bool free = kind == "simpo" || kind == "orpo" || kind == "cpo";
      const auto uniform = [&] { return at::rand({n}, this->options()); };
      DirectPairs p;
      p.logp_chosen = (-10 * uniform() - 0.1).requires_grad_(true);
      p.logp_rejected = (-10 * uniform() - 0.1).requires_grad_(true);
      if (!free) p.ref_chosen = -10 * uniform();
      if (!free) p.ref_rejected = -10 * uniform();
      p.length_chosen = (9 * uniform()).floor() + 1;
      p.length_rejected = (9 * uniform()).floor() + 1;
      const Tensor weights = uniform() * (at::rand({n}) < 0.8) / (n + 1);
      const auto [loss, metrics] = direct_loss(p, weights, o);
      loss.backward();
      const auto params = cast<T>(direct_params(kind, o.beta, o.label_smoothing, 0, {}));
      test::on_every_layout([&] {
        const auto c = on_device<T>(p.logp_chosen.detach(), "logp_chosen"),
                   r = on_device<T>(p.logp_rejected.detach(), "logp_rejected"),
                   rc = on_device<T>(free ? weights : *p.ref_chosen, "ref_chosen"),
                   rr = on_device<T>(free ? weights : *p.ref_rejected, "ref_rejected"),
                   lc = on_device<T>(*p.length_chosen, "length_chosen"),
                   lr = on_device<T>(*p.length_rejected, "length_rejected"),
                   w = on_device<T>(weights, "weights");
        const GlobalBuffer<T> got_loss(1, "loss"), d_chosen(n, "d_chosen"), d_rejected(n, "d");
        const GlobalBuffer<double> got_metrics(math::DirectSums::kMetrics, "metrics");
        const auto workspace = this->workspace();
        const cuda::DirectLossArgs<T> args{c.data(),
                                           r.data(),
                                           free ? nullptr : rc.data(),
                                           free ? nullptr : rr.data(),
                                           w.data(),
                                           lc.data(),
                                           lr.data(),
                                           got_loss.data(),
                                           got_metrics.data(),
                                           d_chosen.data(),
                                           d_rejected.data(),
                                           n,
                                           params,
                                           workspace.data()};
        EXPECT_EQ(cuda::launch_direct_loss(args, nullptr), cudaSuccess);
        const double tolerance = this->kTolerance;
        expect_close(from_device(got_loss)[0], loss.detach(), tolerance, tolerance, "loss");
        expect_close(from_device(got_metrics), metrics, tolerance, tolerance, "metrics");
        expect_close(from_device(d_chosen), p.logp_chosen.grad(), tolerance, tolerance, "chosen");
        expect_close(from_device(d_rejected), p.logp_rejected.grad(), tolerance, tolerance,
                     "rejected");
      });
    }
  }
}

TYPED_TEST(CudaDirectLoss, KtoIsTheCpuOp) {
  using T = TypeParam;
  at::manual_seed(2);
  for (const int64_t n : {0, 1, 33, 300}) {
    SCOPED_TRACE(n);
    const Tensor logp = at::randn({n}, this->options()).requires_grad_(true);
    const Tensor ref = at::randn({n}, this->options()), weights = at::rand({n}, this->options());
    const Tensor good = (at::rand({n}) < 0.5).to(at::kByte);
    const Tensor kl = at::full({}, 0.2, this->options());
    const auto [loss, metrics] = kto_loss(logp, ref, good, weights, kl, {0.3, 1.2, 0.8});
    loss.backward();
    test::on_every_layout([&] {
      const auto x = on_device<T>(logp.detach(), "logp"), r = on_device<T>(ref, "logp_ref"),
                 w = on_device<T>(weights, "weights"), k = on_device<T>(kl, "kl");
      const auto g = on_device<uint8_t>(good, "desirable");
      const GlobalBuffer<T> got_loss(1, "loss"), grad(n, "grad");
      const GlobalBuffer<double> got_metrics(math::KtoSums::kMetrics, "metrics");
      const auto workspace = this->workspace();
      const cuda::KtoLossArgs<T> args{x.data(),
                                      r.data(),
                                      g.data(),
                                      w.data(),
                                      k.data(),
                                      got_loss.data(),
                                      got_metrics.data(),
                                      grad.data(),
                                      n,
                                      cast<T>(kto_params(0.3, 1.2, 0.8)),
                                      workspace.data()};
      EXPECT_EQ(cuda::launch_kto_loss(args, nullptr), cudaSuccess);
      expect_close(from_device(got_loss)[0], loss.detach(), 1e-5, 1e-5, "loss");
      expect_close(from_device(got_metrics), metrics, 1e-5, 1e-5, "metrics");
      expect_close(from_device(grad), logp.grad(), this->kTolerance, this->kTolerance, "grad");
    });
  }
}

TYPED_TEST(CudaDirectLoss, RankingIsTheCpuOp) {
  using T = TypeParam;
  at::manual_seed(3);
  // None; a few; more than a block's 128, and 32 of them more than a warp's room of 384 items; a
  // group that is larger than the room.
  std::vector<int64_t> many = {0};
  for (int64_t g = 0; g < 150; ++g) many.push_back(many.back() + (g < 40 ? 16 : g % 9));
  for (const auto& groups :
       {std::vector<int64_t>{0}, {0, 0, 1, 5, 5, 12, 45}, many, {0, 3, 390, 390, 394}}) {
    for (const std::string model : {"plackett_luce", "bradley_terry", "davidson"}) {
      for (const bool has_ranks : {true, false}) {
        SCOPED_TRACE(model + " " + std::to_string(groups.back()) + (has_ranks ? " ranks" : ""));
        const int64_t items = groups.back(), size = static_cast<int64_t>(groups.size()) - 1;
        const Tensor cu = at::tensor(groups, at::kLong);
        const Tensor scores = (3 * at::randn({items}, this->options())).requires_grad_(true);
        OptionalTensor ranks;
        if (has_ranks) ranks = at::randint(-1, 4, {items}, at::kLong);
        const Tensor weights =
            at::randn({size}, this->options()) * (at::rand({size}) < 0.8) / (1 + size);
        const Tensor loss = ranking_loss(scores, cu, ranks, weights, {model, 0.5, 0});
        loss.backward();
        const RankingParams params = ranking_params(model, 0.5, 0);
        test::on_every_layout([&] {
          const auto s = on_device<T>(scores.detach(), "scores"),
                     w = on_device<T>(weights, "weights");
          const auto c = on_device<int64_t>(cu, "cu_seqlens"),
                     r = on_device<int64_t>(ranks.value_or(cu), "ranks");
          const GlobalBuffer<T> got_loss(1, "loss"), grad(items, "grad");
          const GlobalBuffer<int32_t> order(items, "order");
          const auto workspace = this->workspace();
          const cuda::RankingLossArgs<T> args{s.data(),
                                              c.data(),
                                              has_ranks ? r.data() : nullptr,
                                              w.data(),
                                              got_loss.data(),
                                              grad.data(),
                                              size,
                                              params.plackett_luce,
                                              cast<T>(params.pair),
                                              has_ranks ? order.data() : nullptr,
                                              workspace.data()};
          EXPECT_EQ(cuda::launch_ranking_loss(args, nullptr), cudaSuccess);
          expect_close(from_device(got_loss)[0], loss.detach(), this->kTolerance, this->kTolerance,
                       "loss");
          expect_close(from_device(grad), scores.grad(), this->kTolerance, this->kTolerance,
                       "grad");
        });
      }
    }
  }
}

/// One pair, whose loss is log(1 + e^d): how near the exponential and the logarithm of
/// kernels/math/approximate.h come on a GPU.
TEST(CudaRankingLoss, LogarithmIsAsNearAsItSays) {
  const auto cu = on_device<int64_t>(at::tensor({0, 2}, at::kLong), "cu_seqlens");
  const auto weights = on_device<float>(at::ones({1}), "weights");
  const GlobalBuffer<float> loss(1, "loss"), grad(2, "grad");
  const GlobalBuffer<double> workspace(cuda::sum_workspace_bytes() / sizeof(double), "workspace");
  for (int step = -80; step <= 80; ++step) {
    const double d = 0.1875 * step, want = std::log1p(std::exp(d));
    const auto scores = on_device<float>(at::tensor({0.0, d}, at::kFloat), "scores");
    const cuda::RankingLossArgs<float> args{
        scores.data(), cu.data(), nullptr, weights.data(),  loss.data(), grad.data(), 1,
        true,          {},        nullptr, workspace.data()};
    ASSERT_EQ(cuda::launch_ranking_loss(args, nullptr), cudaSuccess);
    // 2^-22 of the logarithm, half as much of the exponential inside it, and roundings.
    const double near = std::ldexp(2.0, -22) + std::ldexp(want, -23);
    EXPECT_NEAR(from_device(loss)[0].item<double>(), want, near) << d;
  }
}

}  // namespace
}  // namespace hone::kernels
