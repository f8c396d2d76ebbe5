#pragma once

// From the tensors of `advantages_into` to the pointers that its CPU and CUDA kernels walk, and the
// op around both: arguments checked, the backend called.

#include <ATen/core/Tensor.h>

#include <limits>
#include <optional>
#include <string_view>

#include "kernels/inputs.h"
#include "kernels/math/advantages.h"
#include "kernels/options.h"

namespace hone::kernels {

template <typename T>
math::Column<const T> column(const at::Tensor& x, int64_t width) {
  if (!x.defined()) return {};
  return {x.const_data_ptr<T>(), x.dim() == 2 ? x.stride(0) - width : 0};
}

template <typename T>
math::AdvantageRows<T> advantage_rows(const AdvantageInputs& in, const AdvantageOutputs& out) {
  const auto per_row = [](const at::Tensor& x, auto zero) {
    return x.defined() ? x.const_data_ptr<decltype(zero)>() : nullptr;
  };
  const auto written = [](const at::Tensor& x) {
    return x.defined() ? x.mutable_data_ptr<T>() : nullptr;
  };
  return {column<T>(in.logp_old, in.width),
          column<T>(in.logp_ref, in.width),
          column<T>(in.values, in.width),
          column<T>(in.token_rewards, in.width),
          column<T>(in.logp_behaviour, in.width),
          column<uint8_t>(in.mask, in.width),
          per_row(in.scores, T()),
          per_row(in.bootstrap_values, T()),
          per_row(in.cu_seqlens, int64_t()),
          per_row(in.lengths, int64_t()),
          in.width,
          written(out.advantages),
          written(out.returns),
          written(out.rewards),
          in.tokens,
          in.sequences};
}

/// The op `advantages_into` of a backend; `Backend::run(in, settings, out)` fills the outputs.
template <class Backend>
void advantages_into_op(
    const at::Tensor& advantages, const at::Tensor& returns, const OptionalTensor& rewards,
    const at::Tensor& stats, const at::Tensor& logp_old, const OptionalTensor& logp_ref,
    const OptionalTensor& values, const OptionalTensor& scores, const OptionalTensor& cu_seqlens,
    const OptionalTensor& mask, const OptionalTensor& lengths, const OptionalTensor& token_rewards,
    const OptionalTensor& logp_behaviour, const OptionalTensor& bootstrap_values, double kl_coef,
    std::string_view kl_estimator, std::optional<double> kl_clamp, std::string_view placement,
    std::string_view estimator, double gamma, double lambda, double rho_clip, double c_clip) {
  const auto settings = advantage_settings(
      kl_coef, kl_estimator, kl_clamp.value_or(std::numeric_limits<double>::infinity()), placement,
      estimator, gamma, lambda, rho_clip, c_clip);
  const auto in = check_advantages({logp_old, logp_ref, values, scores, cu_seqlens, mask, lengths,
                                    token_rewards, logp_behaviour, bootstrap_values},
                                   settings);
  const AdvantageOutputs out{advantages, returns, rewards.value_or(at::Tensor()), stats};
  check_advantage_outputs(in, out);
  Backend::run(in, settings, out);
}

}  // namespace hone::kernels
