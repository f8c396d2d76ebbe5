#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "kernels/autograd/differentiable_once.h"
#include "kernels/find_op.h"
#include "kernels/loss_signatures.h"

namespace hone::kernels {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

OptionalTensor optional(const Tensor& x) { return x.defined() ? OptionalTensor(x) : std::nullopt; }

struct TokenLogprobsFunction : torch::autograd::Function<TokenLogprobsFunction> {
  static variable_list forward(AutogradContext* ctx, const Tensor& hidden, const Tensor& weight,
                               const OptionalTensor& bias, const Tensor& targets,
                               double temperature) {
    static const auto op = find_op<signatures::TokenLogprobs>("hone::token_logprobs");
    at::AutoDispatchBelowADInplaceOrView below;
    auto [logprobs, entropy] = op.call(hidden, weight, targets, temperature, bias);
    ctx->save_for_backward({hidden, weight, bias.value_or(Tensor()), targets, logprobs, entropy});
    ctx->saved_data["temperature"] = temperature;
    ctx->set_materialize_grads(false);  // an output that nobody used costs nothing
    return {logprobs, entropy};
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    refuse_second_derivative("token_logprobs");
    variable_list out(5);
    if (!grads[0].defined() && !grads[1].defined()) return out;
    static const auto op =
        find_op<signatures::TokenLogprobsBackward>("hone::_token_logprobs_backward");
    const auto saved = ctx->get_saved_variables();
    const std::array<bool, 3> needs{ctx->needs_input_grad(0), ctx->needs_input_grad(1),
                                    saved[2].defined() && ctx->needs_input_grad(2)};
    const auto [d_hidden, d_weight, d_bias] = [&] {
      at::AutoDispatchBelowADInplaceOrView below;
      return op.call(optional(grads[0]), optional(grads[1]), saved[0], saved[1], saved[3],
                     optional(saved[2]), saved[4], saved[5],
                     ctx->saved_data["temperature"].toDouble(), needs);
    }();
    if (needs[0]) out[0] = d_hidden;
    if (needs[1]) out[1] = d_weight;
    if (needs[2]) out[2] = d_bias;
    return out;
  }
};

std::tuple<Tensor, Tensor> token_logprobs_autograd(const Tensor& hidden, const Tensor& weight,
                                                   const Tensor& targets, double temperature,
                                                   const OptionalTensor& bias) {
  const auto out = TokenLogprobsFunction::apply(hidden, weight, bias, targets, temperature);
  return {out[0], out[1]};
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, Autograd, m) {
  m.impl("token_logprobs", &token_logprobs_autograd);
  // Its values carry no gradient (they are for looking at, or for a frozen teacher).
  m.impl("token_top_logprobs", torch::CppFunction::makeFallthrough());
}

}  // namespace hone::kernels
