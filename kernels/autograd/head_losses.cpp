// head_nll and head_policy_loss: the gradients are made in the forward chunk and only scaled here.

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/mul.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <optional>
#include <string>

#include "kernels/autograd/differentiable_once.h"
#include "kernels/find_op.h"

namespace hone::kernels {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using In = const Tensor&;

bool needs_gradient(In x) { return at::GradMode::is_enabled() && x.requires_grad(); }

/// What both functions leave for backward.
void save_gradients(AutogradContext* ctx, In d_hidden, In d_weight, bool need_hidden,
                    bool need_weight) {
  ctx->saved_data["need_hidden"] = need_hidden;
  ctx->saved_data["need_weight"] = need_weight;
  ctx->save_for_backward({need_hidden ? d_hidden : Tensor(), need_weight ? d_weight : Tensor()});
}

/// d hidden and d weight times the upstream scalar, followed by `rest` undefined gradients.
variable_list scaled_gradients(AutogradContext* ctx, const char* op, In upstream, size_t rest) {
  refuse_second_derivative(op);
  variable_list out(2 + rest);
  if (!upstream.defined()) return out;
  const auto saved = ctx->get_saved_variables();
  // Reading the scalar would stop a CUDA stream; on the CPU it saves a pass over [V,H].
  const bool is_one = upstream.is_cpu() && upstream.item<double>() == 1.0;
  for (size_t i = 0; i < 2; ++i) {
    if (saved[i].defined()) out[i] = is_one ? saved[i] : at::mul(saved[i], upstream);
  }
  return out;
}

struct HeadNllFunction : torch::autograd::Function<HeadNllFunction> {
  static variable_list forward(AutogradContext* ctx, In hidden, In weight, In targets,
                               In token_weights, double temperature, bool need_hidden,
                               bool need_weight) {
    static const auto op =
        find_op<std::tuple<Tensor, Tensor, Tensor, Tensor>(In, In, In, In, double, bool, bool)>(
            "hone::_head_nll_grad");
    at::AutoDispatchBelowADInplaceOrView below;
    auto [loss, logprobs, d_hidden, d_weight] =
        op.call(hidden, weight, targets, token_weights, temperature, need_hidden, need_weight);
    save_gradients(ctx, d_hidden, d_weight, need_hidden, need_weight);
    ctx->mark_non_differentiable({logprobs});
    return {loss, logprobs};
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    return scaled_gradients(ctx, "head_nll", grads[0], 5);
  }
};

std::tuple<Tensor, Tensor> head_nll_autograd(In hidden, In weight, In targets, In token_weights,
                                             double temperature) {
  const auto out = HeadNllFunction::apply(hidden, weight, targets, token_weights, temperature,
                                          needs_gradient(hidden), needs_gradient(weight));
  return {out[0], out[1]};
}

struct HeadPolicyLossFunction : torch::autograd::Function<HeadPolicyLossFunction> {
  static variable_list forward(AutogradContext* ctx, In hidden, In weight, In targets, In logp_old,
                               In advantages, const OptionalTensor& logp_ref, In token_weights,
                               double temperature, double clip_low, double clip_high,
                               double dual_clip, double kl_coef, const std::string& kl_estimator,
                               bool need_hidden, bool need_weight) {
    static const auto op = find_op<std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>(
        In, In, In, In, In, const OptionalTensor&, In, double, double, double, double, double,
        c10::string_view, bool, bool)>("hone::_head_policy_loss_grad");
    at::AutoDispatchBelowADInplaceOrView below;
    auto [loss, metrics, logprobs, entropy, d_hidden, d_weight] =
        op.call(hidden, weight, targets, logp_old, advantages, logp_ref, token_weights, temperature,
                clip_low, clip_high, dual_clip, kl_coef, kl_estimator, need_hidden, need_weight);
    save_gradients(ctx, d_hidden, d_weight, need_hidden, need_weight);
    ctx->mark_non_differentiable({metrics, logprobs, entropy});
    return {loss, metrics, logprobs, entropy};
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    return scaled_gradients(ctx, "head_policy_loss", grads[0], 13);
  }
};

std::tuple<Tensor, Tensor, Tensor, Tensor> head_policy_loss_autograd(
    In hidden, In weight, In targets, In logp_old, In advantages, const OptionalTensor& logp_ref,
    In token_weights, double temperature, double clip_low, double clip_high, double dual_clip,
    double kl_coef, c10::string_view kl_estimator) {
  const auto out = HeadPolicyLossFunction::apply(
      hidden, weight, targets, logp_old, advantages, logp_ref, token_weights, temperature, clip_low,
      clip_high, dual_clip, kl_coef, std::string(kl_estimator), needs_gradient(hidden),
      needs_gradient(weight));
  return {out[0], out[1], out[2], out[3]};
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, Autograd, m) {
  m.impl("head_nll", &head_nll_autograd);
  m.impl("head_policy_loss", &head_policy_loss_autograd);
}

}  // namespace hone::kernels
