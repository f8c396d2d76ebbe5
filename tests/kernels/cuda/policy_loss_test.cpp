// The policy and preference loss kernels against the CPU ops.

#include <gtest/gtest.h>

#include <optional>

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
class CudaPolicyLoss : public ::testing::Test {
 protected:
  static constexpr auto kType = c10::CppTypeToScalarType<T>::value;
  static constexpr double kTolerance = kType == at::kFloat ? 2e-5 : 1e-13;
};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(CudaPolicyLoss, Types);

math::PolicyParams<double> params_of(const PolicyLossOptions& o, bool has_behaviour) {
  return policy_params(
      "policy_loss",
      {o.kind, o.clip_low, o.clip_high, o.dual_clip, o.kl_coef, o.kl_estimator, o.tau_positive,
       o.tau_negative, o.behaviour, o.behaviour_low, o.behaviour_high},
      {true, true, has_behaviour});
}

TYPED_TEST(CudaPolicyLoss, IsTheCpuOpForEveryKind) {
  using T = TypeParam;
  at::manual_seed(1);
  // None; 0, 1 and less than a warp; short ones, several a warp and over the end of its ring, one
  // of them too long for a warp; others, several a block, the last over the end of its ring, or too
  // long for a block to hold; long ones alone; more sequences than blocks.
  std::vector<int64_t> many = {0};
  for (int64_t s = 0; s < 30; ++s) many.push_back(many.back() + (s == 17 ? 700 : 7 * s % 40));
  const std::vector<std::vector<int64_t>> packings = {{0},
                                                      {0, 0, 1},
                                                      {0, 3, 3, 36, 300, 333},
                                                      many,
                                                      {0, 1, 5, 9, 1500, 1901},
                                                      {0, 1, 2, 5, 2100, 2104, 2104, 4301},
                                                      {0, 1300, 3001}};
  const char* const kBehaviours[] = {"", "token_truncate", "token_mask", "sequence_truncate",
                                     "sequence_mask"};
  int which = 0;
  for (const char* kind : {"ppo", "gspo", "gspo_token", "rloo", "cispo", "sapo", "reinforce"}) {
    for (const auto& packing : packings) {
      if (packing.back() > 1000 && kind != std::string("gspo")) continue;
      const std::string behaviour = kBehaviours[which++ % 5];
      SCOPED_TRACE(std::string(kind) + " " + behaviour + " " + std::to_string(packing.back()));
      const int64_t n = packing.back();
      const auto options = at::TensorOptions().dtype(this->kType);
      const auto normal = [&](double scale) { return scale * at::randn({n}, options); };
      const Tensor now = (-normal(1).abs()).requires_grad_(true), old = now.detach() + normal(0.1);
      const Tensor advantages = normal(1), ref = old + normal(0.3), sampled = old + normal(0.02);
      const Tensor weights = at::rand({n}, options) * (at::rand({n}) < 0.8) / (n + 1);
      const Tensor cu = at::tensor(packing, at::kLong);
      PolicyLossOptions o;
      o.kind = kind;
      o.kl_coef = 0.1;
      o.behaviour_low = 0.9;
      o.behaviour_high = 1.1;
      if (!behaviour.empty()) o.behaviour = behaviour;
      OptionalTensor given;
      if (!behaviour.empty()) given = sampled;
      const auto [loss, metrics] = policy_loss(now, old, advantages, ref, weights, o, cu, given);
      loss.backward();
      const auto params = cast<T>(params_of(o, given.has_value()));
      test::on_every_layout([&] {
        const auto x = on_device<T>(now.detach(), "logp_new"), y = on_device<T>(old, "logp_old"),
                   a = on_device<T>(advantages, "advantages"), r = on_device<T>(ref, "logp_ref"),
                   w = on_device<T>(weights, "token_weights"), s = on_device<T>(sampled, "sampled");
        const auto cu_seqlens = on_device<int64_t>(cu, "cu_seqlens");
        const GlobalBuffer<T> got_loss(1, "loss"), grad(n, "grad");
        const GlobalBuffer<double> got_metrics(math::PolicySums::kMetrics, "metrics"),
            workspace(cuda::sum_workspace_bytes() / sizeof(double), "workspace");
        const cuda::PolicyLossArgs<T> args{x.data(),
                                           y.data(),
                                           a.data(),
                                           r.data(),
                                           w.data(),
                                           got_loss.data(),
                                           got_metrics.data(),
                                           grad.data(),
                                           n,
                                           params,
                                           workspace.data(),
                                           given ? s.data() : nullptr,
                                           cu_seqlens.data(),
                                           cu.numel() - 1};
        EXPECT_EQ(cuda::launch_policy_loss(args, nullptr), cudaSuccess);
        expect_close(from_device(got_loss)[0], loss.detach(), this->kTolerance, this->kTolerance,
                     "loss");
        expect_close(from_device(got_metrics), metrics, this->kTolerance, this->kTolerance,
                     "metrics");
        expect_close(from_device(grad), now.grad(), this->kTolerance, this->kTolerance, "grad");
      });
    }
  }
}

TYPED_TEST(CudaPolicyLoss, PreferenceLossIsTheCpuOp) {
  using T = TypeParam;
  at::manual_seed(2);
  const PreferenceLossOptions models[] = {{"bradley_terry", 0, 0},
                                          {"bradley_terry", 0, 0.05},
                                          {"davidson", 0.7, 0.1},
                                          {"rao_kupper", 1.5, 0}};
  for (const int64_t n : {0, 1, 33, 700}) {
    for (const auto& o : models) {
      SCOPED_TRACE(o.model + " " + std::to_string(n));
      const auto options = at::TensorOptions().dtype(this->kType);
      const Tensor delta = (3 * at::randn({n}, options)).requires_grad_(true);
      const Tensor target = at::randint(5, {n}, options) / 4,
                   weights = at::randn({n}, options) / 10;
      const Tensor margin = at::rand({n}, options);
      const bool has_margin = n % 2;
      const Tensor loss = preference_loss(delta, target, weights,
                                          has_margin ? OptionalTensor(margin) : std::nullopt, o);
      loss.backward();
      test::on_every_layout([&] {
        const auto x = on_device<T>(delta.detach(), "delta"), t = on_device<T>(target, "target"),
                   w = on_device<T>(weights, "weights"), m = on_device<T>(margin, "margin");
        const GlobalBuffer<T> got_loss(1, "loss"), grad(n, "grad");
        const GlobalBuffer<double> workspace(cuda::sum_workspace_bytes() / sizeof(double),
                                             "workspace");
        const cuda::PreferenceLossArgs<T> args{
            x.data(),
            t.data(),
            w.data(),
            has_margin ? m.data() : nullptr,
            got_loss.data(),
            grad.data(),
            n,
            cast<T>(preference_params("preference_loss", o.model, o.tie, o.lapse)),
            workspace.data()};
        EXPECT_EQ(cuda::launch_preference_loss(args, nullptr), cudaSuccess);
        expect_close(from_device(got_loss)[0], loss.detach(), this->kTolerance, this->kTolerance,
                     "loss");
        expect_close(from_device(grad), delta.grad(), this->kTolerance, this->kTolerance, "grad");
      });
    }
  }
}

}  // namespace
}  // namespace hone::kernels
