#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "kernels/bfloat16.h"
#include "kernels/cpu/head_passes.h"
#include "kernels/loss_signatures.h"

namespace hone::kernels {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

std::tuple<Tensor, Tensor> token_logprobs_cpu(const Tensor& hidden, const Tensor& weight,
                                              const Tensor& targets, double temperature,
                                              const OptionalTensor& bias) {
  const HeadInputs in = check_head("token_logprobs", hidden, weight, targets, bias, temperature);
  const auto options = hidden.options().dtype(compute_type(hidden.scalar_type()));
  Tensor logprobs = at::empty({hidden.size(0)}, options);
  Tensor entropy = at::empty({hidden.size(0)}, options);
  AT_DISPATCH_FLOATING_TYPES(logprobs.scalar_type(), "token_logprobs", [&] {
    head_forward<scalar_t>(
        {in, temperature, logprobs.data_ptr<scalar_t>(), entropy.data_ptr<scalar_t>()});
  });
  return {logprobs, entropy};
}

std::tuple<Tensor, Tensor, Tensor> token_logprobs_backward_cpu(
    const OptionalTensor& grad, const OptionalTensor& grad_entropy, const Tensor& hidden,
    const Tensor& weight, const Tensor& targets, const OptionalTensor& bias, const Tensor& logprobs,
    const Tensor& entropy, double temperature, std::array<bool, 3> needs) {
  constexpr const char* kOp = "token_logprobs";
  const HeadInputs in = check_head(kOp, hidden, weight, targets, bias, temperature);
  const auto values = [&](const OptionalTensor& x, const char* argument) {
    return x.has_value() ? head_token_values(kOp, argument, *x, hidden) : Tensor();
  };
  const Tensor g = values(grad, "grad"), h = values(grad_entropy, "grad_entropy");
  const Tensor held = logprobs.contiguous(), held_entropy = entropy.contiguous();
  HeadGradients gradients;
  AT_DISPATCH_FLOATING_TYPES(held.scalar_type(), kOp, [&] {
    const auto data = [](const Tensor& x) {
      return x.defined() ? x.const_data_ptr<scalar_t>() : nullptr;
    };
    gradients = head_backward<scalar_t>(
        {in, temperature, held.data_ptr<scalar_t>(), held_entropy.data_ptr<scalar_t>()}, needs,
        {data(g), data(h)});
  });
  return {rounded(gradients.hidden, hidden), rounded(gradients.weight, weight),
          rounded(gradients.bias, weight)};
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CPU, m) {
  m.impl("token_logprobs", &token_logprobs_cpu);
  m.impl("_token_logprobs_backward", &token_logprobs_backward_cpu);
}

}  // namespace hone::kernels
