#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mul.h>
#include <torch/library.h>

#include <optional>

#include "kernels/bfloat16.h"
#include "kernels/cpu/head_passes.h"
#include "kernels/head_policy_inputs.h"
#include "kernels/loss_options.h"
#include "kernels/math/policy.h"

namespace hone::kernels {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> head_policy_loss_grad_cpu(
    const Tensor& hidden, const Tensor& weight, const Tensor& targets, const Tensor& logp_old,
    const Tensor& advantages, const OptionalTensor& logp_ref, const Tensor& token_weights,
    double temperature, double clip_low, double clip_high, double dual_clip, double kl_coef,
    std::string_view kl_estimator, const OptionalTensor& bias, const OptionalTensor& logp_behaviour,
    std::string_view kind, double tau_positive, double tau_negative, std::string_view behaviour,
    double behaviour_low, double behaviour_high, double entropy_coef, std::array<bool, 3> needs) {
  constexpr const char* kOp = "head_policy_loss";
  const HeadInputs in = check_head(kOp, hidden, weight, targets, bias, temperature);
  const HeadPolicyTokens values =
      check_head_policy(hidden, logp_old, advantages, logp_ref, token_weights, logp_behaviour,
                        {kind, clip_low, clip_high, dual_clip, kl_coef, kl_estimator, tau_positive,
                         tau_negative, behaviour, behaviour_low, behaviour_high},
                        entropy_coef);
  const int64_t tokens = hidden.size(0);
  const auto options = hidden.options().dtype(compute_type(hidden.scalar_type()));
  Tensor logprobs = at::empty({tokens}, options);
  Tensor entropy = at::empty({tokens}, options);
  Tensor loss = at::empty({}, options);
  Tensor metrics = at::empty({math::PolicySums::kMetrics}, options.dtype(at::kDouble));
  HeadGradients gradients;
  AT_DISPATCH_FLOATING_TYPES(logprobs.scalar_type(), kOp, [&] {
    const auto params = cast<scalar_t>(values.params);
    const auto data = [](const Tensor& x) -> const scalar_t* {
      return x.defined() ? x.const_data_ptr<scalar_t>() : nullptr;
    };
    const scalar_t *token_weight = data(values.token_weights), *old = data(values.logp_old),
                   *advantage = data(values.advantages), *ref = data(values.logp_ref),
                   *sampled = data(values.logp_behaviour);
    const auto token = [&](int64_t i, scalar_t logprob) {
      return math::policy_token<scalar_t>(
          {logprob, old[i], advantage[i], ref ? ref[i] : scalar_t(0), logprob - old[i],
           sampled ? old[i] - sampled[i] : scalar_t(0)},
          params);
    };
    const auto derivative = [&](int64_t i, scalar_t logprob) {
      return token_weight[i] == 0 ? scalar_t(0) : token_weight[i] * token(i, logprob).derivative;
    };
    // loss -= entropy_coef * sum of weight * entropy.
    const Tensor entropy_gradient =
        entropy_coef == 0 ? Tensor() : at::mul(values.token_weights, -entropy_coef);
    gradients = head_fused<scalar_t>(
        {in, temperature, logprobs.data_ptr<scalar_t>(), entropy.data_ptr<scalar_t>()}, needs,
        derivative, data(entropy_gradient));
    math::PolicySums sums;  // in token order, so that it does not depend on threads
    const scalar_t *logprob = data(logprobs), *row_entropy = data(entropy);
    for (int64_t i = 0; i < tokens; ++i) {
      if (token_weight[i] != 0) {
        sums.add(token(i, logprob[i]), token_weight[i], row_entropy[i]);
      }
    }
    const double bonus = entropy_coef == 0 ? 0.0 : entropy_coef * sums.entropy;
    *loss.data_ptr<scalar_t>() = static_cast<scalar_t>(sums.loss - bonus);
    sums.store(metrics.data_ptr<double>());
  });
  return {loss,
          metrics,
          logprobs,
          entropy,
          rounded(gradients.hidden, hidden),
          rounded(gradients.weight, weight),
          rounded(gradients.bias, weight)};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> head_policy_loss_cpu(
    const Tensor& hidden, const Tensor& weight, const Tensor& targets, const Tensor& logp_old,
    const Tensor& advantages, const OptionalTensor& logp_ref, const Tensor& token_weights,
    double temperature, double clip_low, double clip_high, double dual_clip, double kl_coef,
    std::string_view kl_estimator, const OptionalTensor& bias, const OptionalTensor& logp_behaviour,
    std::string_view kind, double tau_positive, double tau_negative, std::string_view behaviour,
    double behaviour_low, double behaviour_high, double entropy_coef) {
  const auto all = head_policy_loss_grad_cpu(
      hidden, weight, targets, logp_old, advantages, logp_ref, token_weights, temperature, clip_low,
      clip_high, dual_clip, kl_coef, kl_estimator, bias, logp_behaviour, kind, tau_positive,
      tau_negative, behaviour, behaviour_low, behaviour_high, entropy_coef, kForwardOnly);
  return {std::get<0>(all), std::get<1>(all), std::get<2>(all), std::get<3>(all)};
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CPU, m) {
  m.impl("head_policy_loss", &head_policy_loss_cpu);
  m.impl("_head_policy_loss_grad", &head_policy_loss_grad_cpu);
}

}  // namespace hone::kernels
