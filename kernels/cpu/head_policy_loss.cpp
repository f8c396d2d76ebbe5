#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <optional>
#include <vector>

#include "kernels/bfloat16.h"
#include "kernels/checks.h"
#include "kernels/composite/chunked_head.h"
#include "kernels/cpu/head_rows.h"
#include "kernels/loss_options.h"
#include "kernels/math/policy.h"

namespace hone::kernels {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> head_policy_loss_grad_cpu(
    const Tensor& hidden, const Tensor& weight, const Tensor& targets, const Tensor& logp_old,
    const Tensor& advantages, const OptionalTensor& logp_ref, const Tensor& token_weights,
    double temperature, double clip_low, double clip_high, double dual_clip, double kl_coef,
    c10::string_view kl_estimator, bool need_hidden, bool need_weight) {
  constexpr const char* kOp = "head_policy_loss";
  check_head(kOp, hidden, weight, targets, temperature);
  const Tensor h = hidden.contiguous(), w = weight.contiguous(), ids = targets.contiguous();
  const Tensor old = head_token_values(kOp, "logp_old", logp_old, h);
  const Tensor advantage = head_token_values(kOp, "advantages", advantages, h);
  const Tensor weights = head_token_values(kOp, "token_weights", token_weights, h);
  const bool has_ref = logp_ref && logp_ref->defined();
  const auto policy = policy_params(kOp, clip_low, clip_high, dual_clip, kl_coef,
                                    {kl_estimator.data(), kl_estimator.size()}, has_ref);
  const Tensor reference =
      kl_coef != 0 ? head_token_values(kOp, "logp_ref", *logp_ref, h) : Tensor();

  const int64_t tokens = h.size(0);
  const auto options = h.options().dtype(compute_type(h.scalar_type()));
  Tensor logprobs = at::empty({tokens}, options);
  Tensor entropy = at::empty({tokens}, options);
  Tensor loss = at::empty({}, options);
  Tensor metrics = at::empty({5}, options.dtype(at::kDouble));
  HeadGradients gradients;
  AT_DISPATCH_FLOATING_TYPES(compute_type(h.scalar_type()), kOp, [&] {
    const auto params = cast<scalar_t>(policy);
    const scalar_t* token_weight = weights.const_data_ptr<scalar_t>();
    const scalar_t* old_logprob = old.const_data_ptr<scalar_t>();
    const scalar_t* token_advantage = advantage.const_data_ptr<scalar_t>();
    const scalar_t* ref = reference.defined() ? reference.const_data_ptr<scalar_t>() : nullptr;
    const auto token = [&](int64_t i, scalar_t logprob) {
      return math::policy_token<scalar_t>(logprob, old_logprob[i], token_advantage[i],
                                          ref ? ref[i] : scalar_t(0), params);
    };
    gradients = for_each_head_chunk(
        h, w, need_hidden, need_weight, [&](const Tensor& logits, int64_t begin) {
          const HeadRows<scalar_t> rows{logits.data_ptr<scalar_t>(),
                                        ids.const_data_ptr<int64_t>() + begin,
                                        logits.size(0),
                                        logits.size(1),
                                        temperature,
                                        logprobs.data_ptr<scalar_t>() + begin,
                                        entropy.data_ptr<scalar_t>() + begin};
          if (!need_hidden && !need_weight) return head_rows_forward(rows);
          head_rows_fused<scalar_t>(rows, [&](int64_t row, scalar_t logprob) {
            const int64_t i = begin + row;
            return token_weight[i] == 0 ? scalar_t(0)
                                        : token_weight[i] * token(i, logprob).derivative;
          });
        });
    math::PolicySums sums;  // in token order, so that it does not depend on threads
    const scalar_t* logprob = logprobs.const_data_ptr<scalar_t>();
    for (int64_t i = 0; i < tokens; ++i) {
      if (token_weight[i] != 0) sums.add(token(i, logprob[i]), token_weight[i]);
    }
    *loss.data_ptr<scalar_t>() = static_cast<scalar_t>(sums.loss);
    double* metric = metrics.data_ptr<double>();
    metric[0] = sums.clip_fraction;
    metric[1] = sums.approx_kl;
    metric[2] = sums.mean_log_ratio;
    metric[3] = sums.mean_ratio;
    metric[4] = sums.max_deviation;
  });
  return {loss,
          metrics,
          logprobs,
          entropy,
          rounded(gradients.hidden, hidden),
          rounded(gradients.weight, weight)};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> head_policy_loss_cpu(
    const Tensor& hidden, const Tensor& weight, const Tensor& targets, const Tensor& logp_old,
    const Tensor& advantages, const OptionalTensor& logp_ref, const Tensor& token_weights,
    double temperature, double clip_low, double clip_high, double dual_clip, double kl_coef,
    c10::string_view kl_estimator) {
  auto [loss, metrics, logprobs, entropy, d_hidden, d_weight] = head_policy_loss_grad_cpu(
      hidden, weight, targets, logp_old, advantages, logp_ref, token_weights, temperature, clip_low,
      clip_high, dual_clip, kl_coef, kl_estimator, false, false);
  return {loss, metrics, logprobs, entropy};
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CPU, m) {
  m.impl("head_policy_loss", &head_policy_loss_cpu);
  m.impl("_head_policy_loss_grad", &head_policy_loss_grad_cpu);
}

}  // namespace hone::kernels
