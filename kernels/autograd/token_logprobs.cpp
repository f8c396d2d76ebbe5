#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "kernels/autograd/differentiable_once.h"
#include "kernels/find_op.h"

namespace hone::kernels {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

std::tuple<Tensor, Tensor> forward_op(const Tensor& hidden, const Tensor& weight,
                                      const Tensor& targets, double temperature) {
  static const auto op =
      find_op<std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&, double)>(
          "hone::token_logprobs");
  at::AutoDispatchBelowADInplaceOrView below;
  return op.call(hidden, weight, targets, temperature);
}

std::tuple<Tensor, Tensor> backward_op(const Tensor& grad, const Tensor& hidden,
                                       const Tensor& weight, const Tensor& targets,
                                       const Tensor& logprobs, double temperature, bool need_hidden,
                                       bool need_weight) {
  static const auto op =
      find_op<std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                                         const Tensor&, double, bool, bool)>(
          "hone::_token_logprobs_backward");
  at::AutoDispatchBelowADInplaceOrView below;
  return op.call(grad, hidden, weight, targets, logprobs, temperature, need_hidden, need_weight);
}

struct TokenLogprobsFunction : torch::autograd::Function<TokenLogprobsFunction> {
  static variable_list forward(AutogradContext* ctx, const Tensor& hidden, const Tensor& weight,
                               const Tensor& targets, double temperature) {
    auto [logprobs, entropy] = forward_op(hidden, weight, targets, temperature);
    ctx->save_for_backward({hidden, weight, targets, logprobs});
    ctx->saved_data["temperature"] = temperature;
    ctx->mark_non_differentiable({entropy});
    return {logprobs, entropy};
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    refuse_second_derivative("token_logprobs");
    if (!grads[0].defined()) return {Tensor(), Tensor(), Tensor(), Tensor()};
    const auto saved = ctx->get_saved_variables();
    const bool need_hidden = ctx->needs_input_grad(0), need_weight = ctx->needs_input_grad(1);
    auto [d_hidden, d_weight] =
        backward_op(grads[0], saved[0], saved[1], saved[2], saved[3],
                    ctx->saved_data["temperature"].toDouble(), need_hidden, need_weight);
    return {need_hidden ? d_hidden : Tensor(), need_weight ? d_weight : Tensor(), Tensor(),
            Tensor()};
  }
};

std::tuple<Tensor, Tensor> token_logprobs_autograd(const Tensor& hidden, const Tensor& weight,
                                                   const Tensor& targets, double temperature) {
  auto out = TokenLogprobsFunction::apply(hidden, weight, targets, temperature);
  return {out[0], out[1]};
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, Autograd, m) { m.impl("token_logprobs", &token_logprobs_autograd); }

}  // namespace hone::kernels
