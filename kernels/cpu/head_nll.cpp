#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "kernels/bfloat16.h"
#include "kernels/cpu/head_passes.h"

namespace hone::kernels {
namespace {

using at::Tensor;

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> head_nll_grad_cpu(
    const Tensor& hidden, const Tensor& weight, const Tensor& targets, const Tensor& token_weights,
    double temperature, const std::optional<Tensor>& bias, std::array<bool, 3> needs) {
  const HeadInputs in = check_head("head_nll", hidden, weight, targets, bias, temperature);
  const Tensor weights = head_token_values("head_nll", "token_weights", token_weights, hidden);
  const int64_t tokens = hidden.size(0);
  const auto options = hidden.options().dtype(compute_type(hidden.scalar_type()));
  Tensor logprobs = at::empty({tokens}, options), entropy = at::empty({tokens}, options);
  Tensor loss = at::empty({}, options);
  HeadGradients gradients;
  AT_DISPATCH_FLOATING_TYPES(logprobs.scalar_type(), "head_nll", [&] {
    const scalar_t* token_weight = weights.const_data_ptr<scalar_t>();
    const scalar_t* logprob = logprobs.const_data_ptr<scalar_t>();
    gradients = head_fused<scalar_t>(
        {in, temperature, logprobs.data_ptr<scalar_t>(), entropy.data_ptr<scalar_t>()}, needs,
        [&](int64_t token, scalar_t) { return -token_weight[token]; }, nullptr);
    double total = 0;  // in token order, so that it does not depend on threads
    for (int64_t i = 0; i < tokens; ++i) {
      // A masked token may have log-probability -inf; 0 * inf must not reach the loss.
      if (token_weight[i] != 0) total -= static_cast<double>(token_weight[i]) * logprob[i];
    }
    *loss.data_ptr<scalar_t>() = static_cast<scalar_t>(total);
  });
  return {loss, logprobs, rounded(gradients.hidden, hidden), rounded(gradients.weight, weight),
          rounded(gradients.bias, weight)};
}

std::tuple<Tensor, Tensor> head_nll_cpu(const Tensor& hidden, const Tensor& weight,
                                        const Tensor& targets, const Tensor& token_weights,
                                        double temperature, const std::optional<Tensor>& bias) {
  const auto all =
      head_nll_grad_cpu(hidden, weight, targets, token_weights, temperature, bias, kForwardOnly);
  return {std::get<0>(all), std::get<1>(all)};
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CPU, m) {
  m.impl("head_nll", &head_nll_cpu);
  m.impl("_head_nll_grad", &head_nll_grad_cpu);
}

}  // namespace hone::kernels
