// Gradients of the transformer pieces: attention, rms_norm, swiglu, dropout.

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
using In = const Tensor&;

struct RmsNormFunction : torch::autograd::Function<RmsNormFunction> {
  static Tensor forward(AutogradContext* ctx, In x, In weight, double eps) {
    static const auto op = find_op<Tensor(In, In, double)>("hone::rms_norm");
    at::AutoDispatchBelowADInplaceOrView below;
    ctx->save_for_backward({x, weight});
    ctx->saved_data["eps"] = eps;
    return op.call(x, weight, eps);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    refuse_second_derivative("rms_norm");
    static const auto op =
        find_op<std::tuple<Tensor, Tensor>(In, In, In, double)>("hone::_rms_norm_backward");
    at::AutoDispatchBelowADInplaceOrView below;
    const auto saved = ctx->get_saved_variables();
    auto [d_x, d_weight] = op.call(grads[0], saved[0], saved[1], ctx->saved_data["eps"].toDouble());
    return {d_x, d_weight, Tensor()};
  }
};

Tensor rms_norm_autograd(In x, In weight, double eps) {
  return RmsNormFunction::apply(x, weight, eps);
}

struct SwigluFunction : torch::autograd::Function<SwigluFunction> {
  static Tensor forward(AutogradContext* ctx, In x) {
    static const auto op = find_op<Tensor(In)>("hone::swiglu");
    at::AutoDispatchBelowADInplaceOrView below;
    ctx->save_for_backward({x});
    return op.call(x);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    refuse_second_derivative("swiglu");
    static const auto op = find_op<Tensor(In, In)>("hone::_swiglu_backward");
    at::AutoDispatchBelowADInplaceOrView below;
    return {op.call(grads[0], ctx->get_saved_variables()[0])};
  }
};

Tensor swiglu_autograd(In x) { return SwigluFunction::apply(x); }

Tensor dropout_below_autograd(In x, double p, int64_t seed) {
  static const auto op = find_op<Tensor(In, double, int64_t)>("hone::dropout");
  at::AutoDispatchBelowADInplaceOrView below;
  return op.call(x, p, seed);
}

/// The mask is a function of (seed, element), so backward is the same op on the gradient.
struct DropoutFunction : torch::autograd::Function<DropoutFunction> {
  static Tensor forward(AutogradContext* ctx, In x, double p, int64_t seed) {
    ctx->saved_data["p"] = p;
    ctx->saved_data["seed"] = seed;
    return dropout_below_autograd(x, p, seed);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    refuse_second_derivative("dropout");
    return {dropout_below_autograd(grads[0], ctx->saved_data["p"].toDouble(),
                                   ctx->saved_data["seed"].toInt()),
            Tensor(), Tensor()};
  }
};

Tensor dropout_autograd(In x, double p, int64_t seed) { return DropoutFunction::apply(x, p, seed); }

struct AttentionFunction : torch::autograd::Function<AttentionFunction> {
  static Tensor forward(AutogradContext* ctx, In qkv, In cu_seqlens, In cos, In sin, int64_t heads,
                        int64_t kv_heads, int64_t head_dim, double scale, int64_t window) {
    static const auto op = find_op<std::tuple<Tensor, Tensor>(
        In, In, In, In, int64_t, int64_t, int64_t, double, int64_t)>("hone::_attention_forward");
    at::AutoDispatchBelowADInplaceOrView below;
    auto [out, lse] = op.call(qkv, cu_seqlens, cos, sin, heads, kv_heads, head_dim, scale, window);
    ctx->save_for_backward({qkv, cu_seqlens, cos, sin, out, lse});
    ctx->saved_data["shape"] = at::IntArrayRef{heads, kv_heads, head_dim, window};
    ctx->saved_data["scale"] = scale;
    return out;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    refuse_second_derivative("attention");
    static const auto op =
        find_op<Tensor(In, In, In, In, In, In, In, int64_t, int64_t, int64_t, double, int64_t)>(
            "hone::_attention_backward");
    at::AutoDispatchBelowADInplaceOrView below;
    const auto saved = ctx->get_saved_variables();
    const auto shape = ctx->saved_data["shape"].toIntVector();
    variable_list out(9);
    out[0] = op.call(grads[0], saved[0], saved[1], saved[2], saved[3], saved[4], saved[5], shape[0],
                     shape[1], shape[2], ctx->saved_data["scale"].toDouble(), shape[3]);
    return out;
  }
};

Tensor attention_autograd(In qkv, In cu_seqlens, In cos, In sin, int64_t heads, int64_t kv_heads,
                          int64_t head_dim, double scale, int64_t window) {
  return AttentionFunction::apply(qkv, cu_seqlens, cos, sin, heads, kv_heads, head_dim, scale,
                                  window);
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, Autograd, m) {
  m.impl("rms_norm", &rms_norm_autograd);
  m.impl("swiglu", &swiglu_autograd);
  m.impl("dropout", &dropout_autograd);
  m.impl("attention", &attention_autograd);
}

}  // namespace hone::kernels
