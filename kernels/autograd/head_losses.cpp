// head_nll and head_policy_loss: the gradients are made in the forward chunk and only scaled here.

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/mul.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/graph_task.h>
#include <torch/library.h>

#include <array>
#include <optional>
#include <string_view>

#include "kernels/autograd/differentiable_once.h"
#include "kernels/find_op.h"
#include "kernels/loss_signatures.h"

namespace hone::kernels {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using In = const Tensor&;

bool needs_gradient(In x) { return at::GradMode::is_enabled() && x.requires_grad(); }

using Needs = std::array<bool, 3>;  // gradients of hidden, weight, bias

/// The last three results of `all`, and what of them is wanted, for backward.
template <typename... Results>
void save_gradients(AutogradContext* ctx, const std::tuple<Results...>& all, const Needs& needs) {
  constexpr size_t kFirst = sizeof...(Results) - 3;
  const auto kept = [&](size_t i, In x) { return needs[i] ? x : Tensor(); };
  ctx->save_for_backward({kept(0, std::get<kFirst>(all)), kept(1, std::get<kFirst + 1>(all)),
                          kept(2, std::get<kFirst + 2>(all))});
}

/// The three gradients times the upstream scalar, then `rest` undefined ones.
variable_list scaled_gradients(AutogradContext* ctx, const char* op, In upstream, size_t rest) {
  static const auto scale_op = find_op<void(In, In)>("hone::scale");
  refuse_second_derivative(op);
  variable_list out(3 + rest);
  if (!upstream.defined()) return out;
  const auto saved = ctx->get_saved_variables();
  // A pass over [V,H] is saved where the scalar is 1, as it mostly is. On the CPU it can be read; a
  // traced one has no value. Reading it would stop a CUDA stream, but the kernel of `scale` looks
  // at it; in place, so only when nobody comes back for the gradients.
  const bool traced = upstream.key_set().has(c10::DispatchKey::Python);
  const bool is_one = upstream.is_cpu() && !traced && upstream.item<double>() == 1.0;
  const bool in_place =
      upstream.is_cuda() && !traced && !torch::autograd::get_current_graph_task_keep_graph();
  at::AutoDispatchBelowADInplaceOrView below;
  const Tensor factor = in_place ? upstream.to(at::kDouble) : Tensor();
  for (size_t i = 0; i < 3; ++i) {
    if (!saved[i].defined()) continue;
    out[i] = is_one || in_place ? saved[i] : at::mul(saved[i], upstream);
    if (in_place) scale_op.call(out[i], factor);
  }
  return out;
}

Needs needed_gradients(In hidden, In weight, const OptionalTensor& bias) {
  return {needs_gradient(hidden), needs_gradient(weight), bias && needs_gradient(*bias)};
}

// Both functions take what autograd looks at as arguments and the rest as a tuple of constants.

struct HeadNllFunction : torch::autograd::Function<HeadNllFunction> {
  using Constants = std::tuple<Tensor, Tensor, double>;  // targets, token_weights, temperature

  static variable_list forward(AutogradContext* ctx, In hidden, In weight,
                               const OptionalTensor& bias, const Constants& rest,
                               const Needs& needs) {
    static const auto op = find_op<signatures::HeadNllGrad>("hone::_head_nll_grad");
    at::AutoDispatchBelowADInplaceOrView below;
    const auto& [targets, token_weights, temperature] = rest;
    const auto all = op.call(hidden, weight, targets, token_weights, temperature, bias, needs);
    save_gradients(ctx, all, needs);
    const auto& [loss, logprobs, d_hidden, d_weight, d_bias] = all;
    ctx->mark_non_differentiable({logprobs});
    return {loss, logprobs};
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    return scaled_gradients(ctx, "head_nll", grads[0], 2);
  }
};

std::tuple<Tensor, Tensor> head_nll_autograd(In hidden, In weight, In targets, In token_weights,
                                             double temperature, const OptionalTensor& bias) {
  const auto out =
      HeadNllFunction::apply(hidden, weight, bias, std::tuple(targets, token_weights, temperature),
                             needed_gradients(hidden, weight, bias));
  return {out[0], out[1]};
}

struct HeadPolicyTensors {
  Tensor targets, logp_old, advantages, token_weights;
  OptionalTensor logp_ref, logp_behaviour;
};
struct HeadPolicyNumbers {
  double temperature, clip_low, clip_high, dual_clip, kl_coef;
  std::string_view kl_estimator, kind;
  double tau_positive, tau_negative;
  std::string_view behaviour;
  double behaviour_low, behaviour_high, entropy_coef;
};

struct HeadPolicyLossFunction : torch::autograd::Function<HeadPolicyLossFunction> {
  static variable_list forward(AutogradContext* ctx, In hidden, In weight,
                               const OptionalTensor& bias, const HeadPolicyTensors& t,
                               const HeadPolicyNumbers& n, const Needs& needs) {
    static const auto op = find_op<signatures::HeadPolicyLossGrad>("hone::_head_policy_loss_grad");
    at::AutoDispatchBelowADInplaceOrView below;
    const auto all =
        op.call(hidden, weight, t.targets, t.logp_old, t.advantages, t.logp_ref, t.token_weights,
                n.temperature, n.clip_low, n.clip_high, n.dual_clip, n.kl_coef, n.kl_estimator,
                bias, t.logp_behaviour, n.kind, n.tau_positive, n.tau_negative, n.behaviour,
                n.behaviour_low, n.behaviour_high, n.entropy_coef, needs);
    save_gradients(ctx, all, needs);
    const auto& [loss, metrics, logprobs, entropy, d_hidden, d_weight, d_bias] = all;
    ctx->mark_non_differentiable({metrics, logprobs, entropy});
    return {loss, metrics, logprobs, entropy};
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    return scaled_gradients(ctx, "head_policy_loss", grads[0], 3);
  }
};

std::tuple<Tensor, Tensor, Tensor, Tensor> head_policy_loss_autograd(
    In hidden, In weight, In targets, In logp_old, In advantages, const OptionalTensor& logp_ref,
    In token_weights, double temperature, double clip_low, double clip_high, double dual_clip,
    double kl_coef, std::string_view kl_estimator, const OptionalTensor& bias,
    const OptionalTensor& logp_behaviour, std::string_view kind, double tau_positive,
    double tau_negative, std::string_view behaviour, double behaviour_low, double behaviour_high,
    double entropy_coef) {
  const HeadPolicyTensors tensors{targets,       logp_old, advantages,
                                  token_weights, logp_ref, logp_behaviour};
  const HeadPolicyNumbers numbers{
      temperature,  clip_low,     clip_high, dual_clip,     kl_coef,        kl_estimator, kind,
      tau_positive, tau_negative, behaviour, behaviour_low, behaviour_high, entropy_coef};
  const auto out = HeadPolicyLossFunction::apply(hidden, weight, bias, tensors, numbers,
                                                 needed_gradients(hidden, weight, bias));
  return {out[0], out[1], out[2], out[3]};
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, Autograd, m) {
  m.impl("head_nll", &head_nll_autograd);
  m.impl("head_policy_loss", &head_policy_loss_autograd);
}

}  // namespace hone::kernels
