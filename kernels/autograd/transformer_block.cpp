#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <optional>
#include <vector>

#include "kernels/autograd/differentiable_once.h"
#include "kernels/find_op.h"

namespace hone::kernels {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using In = const Tensor&;
using Rows = const std::optional<Tensor>&;

struct BlockFunction : torch::autograd::Function<BlockFunction> {
  static Tensor forward(AutogradContext* ctx, In x, at::TensorList weights, In cu_seqlens, In cos,
                        In sin, int64_t heads, int64_t kv_heads, int64_t head_dim, double scale,
                        int64_t window, double eps, bool bfloat16, Rows rows) {
    static const auto op =
        find_op<std::vector<Tensor>(In, at::TensorList, In, In, In, int64_t, int64_t, int64_t,
                                    double, int64_t, double, bool, Rows)>(
            "hone::_transformer_block_forward");
    at::AutoDispatchBelowADInplaceOrView below;
    auto out = op.call(x, weights, cu_seqlens, cos, sin, heads, kv_heads, head_dim, scale, window,
                       eps, bfloat16, rows);
    variable_list saved{x, cu_seqlens, cos, sin, rows.value_or(Tensor())};
    saved.insert(saved.end(), weights.begin(), weights.end());
    saved.insert(saved.end(), out.begin() + 1, out.end());
    ctx->save_for_backward(std::move(saved));
    ctx->saved_data["weights"] = static_cast<int64_t>(weights.size());
    ctx->saved_data["shape"] = at::IntArrayRef{heads, kv_heads, head_dim, window};
    ctx->saved_data["scale"] = scale;
    ctx->saved_data["eps"] = eps;
    ctx->saved_data["bfloat16"] = bfloat16;
    return out[0];
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    refuse_second_derivative("transformer_block");
    static const auto op =
        find_op<std::vector<Tensor>(In, at::TensorList, In, at::TensorList, In, In, In, int64_t,
                                    int64_t, int64_t, double, int64_t, double, bool, Rows)>(
            "hone::_transformer_block_backward");
    at::AutoDispatchBelowADInplaceOrView below;
    const auto saved = ctx->get_saved_variables();
    const auto count = static_cast<size_t>(ctx->saved_data["weights"].toInt());
    const at::TensorList all(saved), weights = all.slice(5, count), rest = all.slice(5 + count);
    const auto shape = ctx->saved_data["shape"].toIntVector();
    variable_list out =
        op.call(grads[0], rest, saved[0], weights, saved[1], saved[2], saved[3], shape[0], shape[1],
                shape[2], ctx->saved_data["scale"].toDouble(), shape[3],
                ctx->saved_data["eps"].toDouble(), ctx->saved_data["bfloat16"].toBool(),
                saved[4].defined() ? std::optional<Tensor>(saved[4]) : std::nullopt);
    out.resize(out.size() + 11);  // of what is no weight
    return out;
  }
};

Tensor block_autograd(In x, at::TensorList weights, In cu_seqlens, In cos, In sin, int64_t heads,
                      int64_t kv_heads, int64_t head_dim, double scale, int64_t window, double eps,
                      bool bfloat16, Rows rows) {
  return BlockFunction::apply(x, weights, cu_seqlens, cos, sin, heads, kv_heads, head_dim, scale,
                              window, eps, bfloat16, rows);
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, Autograd, m) { m.impl("transformer_block", &block_autograd); }

}  // namespace hone::kernels
