#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include "kernels/cpu/fixed_order_sum.h"
#include "kernels/loss_inputs.h"
#include "kernels/loss_options.h"

namespace hone::kernels {
namespace {

std::tuple<at::Tensor, at::Tensor, at::Tensor> policy_loss_cpu(
    const at::Tensor& logp_new, const at::Tensor& logp_old, const at::Tensor& advantages,
    const OptionalTensor& logp_ref, const at::Tensor& token_weights, double clip_low,
    double clip_high, double dual_clip, double kl_coef, std::string_view kl_estimator) {
  const auto params = policy_params("policy_loss", clip_low, clip_high, dual_clip, kl_coef,
                                    kl_estimator, logp_ref.has_value());
  const PolicyInputs in =
      check_policy_loss(logp_new, logp_old, advantages, logp_ref, token_weights);
  const at::Tensor loss = at::empty({}, in.logp_new.options());
  const at::Tensor metrics = at::empty({5}, in.logp_new.options().dtype(at::kDouble));
  const at::Tensor grad = at::empty_like(in.logp_new);
  AT_DISPATCH_FLOATING_TYPES(in.logp_new.scalar_type(), "policy_loss", [&] {
    const auto p = cast<scalar_t>(params);
    const scalar_t* now = in.logp_new.const_data_ptr<scalar_t>();
    const scalar_t* old = in.logp_old.const_data_ptr<scalar_t>();
    const scalar_t* adv = in.advantages.const_data_ptr<scalar_t>();
    const scalar_t* weight = in.token_weights.const_data_ptr<scalar_t>();
    // Without a reference the kl_coef is 0 and any readable value will do.
    const scalar_t* ref = in.logp_ref.defined() ? in.logp_ref.const_data_ptr<scalar_t>() : old;
    scalar_t* d = grad.mutable_data_ptr<scalar_t>();
    const auto sums = sum_in_blocks<math::PolicySums>(
        in.logp_new.numel(), [&](math::PolicySums& s, int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) {
            d[i] = 0;
            if (weight[i] == 0) continue;
            const auto token = math::policy_token(now[i], old[i], adv[i], ref[i], p);
            d[i] = weight[i] * token.derivative;
            s.add(token, weight[i]);
          }
        });
    *loss.mutable_data_ptr<scalar_t>() = static_cast<scalar_t>(sums.loss);
    double* m = metrics.mutable_data_ptr<double>();
    m[0] = sums.clip_fraction;
    m[1] = sums.approx_kl;
    m[2] = sums.mean_log_ratio;
    m[3] = sums.mean_ratio;
    m[4] = sums.max_deviation;
  });
  return {loss, metrics, grad};
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CPU, m) { m.impl("policy_loss_with_grad", &policy_loss_cpu); }

}  // namespace hone::kernels
