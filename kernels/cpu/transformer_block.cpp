// A whole block of a Llama-like transformer as one op: what the ops of the same names compute one
// after the other, with the products in the type that the caller asks for and no passes between.

#include "kernels/transformer_block.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "kernels/cpu/row_kernels.h"
#include "kernels/find_op.h"
#include "kernels/gemm.h"

namespace hone::kernels {
namespace {

using at::Tensor;
using In = const Tensor&;

constexpr int64_t kRows = 128;  // of one task of a row pass; also a share of a norm's d weight

template <typename T>
const T* data(In x) {
  return x.const_data_ptr<T>();
}
template <typename T>
T* out_data(In x) {
  return x.mutable_data_ptr<T>();
}

/// The passes of one block. T: residual stream and sums; G: operands of matrix products.
template <typename T, typename G>
class Block {
 public:
  explicit Block(const BlockArguments& in) : in_(in), rows_(in.x.size(0)), width_(in.x.size(1)) {}

  std::vector<Tensor> forward() const {
    const Tensor x = in_.x.contiguous();
    const Tensor normed = norm(x, in_.attention_norm());
    Tensor qkv = like(in_.qkv().size(0));
    if (in_.has_bias()) qkv.copy_(in_.qkv_bias().expand_as(qkv));
    product(normed, in_.qkv(), in_.has_bias(), qkv);
    static const auto attention = find_op<std::tuple<Tensor, Tensor>(
        In, In, In, In, int64_t, int64_t, int64_t, double, int64_t)>("hone::_attention_forward");
    const auto [attended, lse] = attention.call(qkv, in_.cu_seqlens, in_.cos, in_.sin, in_.heads,
                                                in_.kv_heads, in_.head_dim, in_.scale, in_.window);
    const Tensor mixed = operand(attended);
    Tensor middle = x.clone();
    product(mixed, in_.attention_output(), true, middle);
    const Tensor normed_middle = norm(middle, in_.mlp_norm());
    Tensor gate_up = like(in_.gate_up().size(0));
    product(normed_middle, in_.gate_up(), false, gate_up);
    const Tensor gated = operand_like(gate_up.size(1) / 2);
    for_rows([&](int64_t begin, int64_t count) {
      swiglu_rows<T, G>(data<T>(gate_up) + begin * gate_up.size(1),
                        out_data<G>(gated) + begin * gated.size(1), count, gated.size(1));
    });
    Tensor out = middle.clone();
    product(gated, in_.down(), true, out);
    return {out, normed, qkv, mixed, lse, middle, normed_middle, gate_up, gated};
  }

  /// Gradients of x and of the weights in their order.
  std::vector<Tensor> backward(In grad, at::TensorList saved) const {
    const Tensor &normed = saved[0], &qkv = saved[1], &mixed = saved[2], &lse = saved[3];
    const Tensor &middle = saved[4], &normed_middle = saved[5], &gate_up = saved[6];
    const Tensor &gated = saved[7], d_out = grad.contiguous(), x = in_.x.contiguous();
    const Tensor d_out_operand = operand(d_out);
    const Tensor d_down = weight_gradient(d_out_operand, gated);
    const Tensor d_gated = input_gradient(d_out_operand, in_.down());
    const Tensor d_gate_up = operand_like(gate_up.size(1));
    for_rows([&](int64_t begin, int64_t count) {
      swiglu_backward_rows<T, G>(
          data<T>(d_gated) + begin * d_gated.size(1), data<T>(gate_up) + begin * gate_up.size(1),
          out_data<G>(d_gate_up) + begin * gate_up.size(1), count, d_gated.size(1));
    });
    const Tensor d_gate_up_weight = weight_gradient(d_gate_up, normed_middle);
    const auto [d_middle, d_mlp_norm] =
        norm_backward(input_gradient(d_gate_up, in_.gate_up()), middle, in_.mlp_norm(), d_out);
    const Tensor d_mixed_out = operand(d_middle);
    const Tensor d_attention_output = weight_gradient(d_mixed_out, mixed);
    static const auto attention =
        find_op<Tensor(In, In, In, In, In, In, In, int64_t, int64_t, int64_t, double, int64_t)>(
            "hone::_attention_backward");
    const Tensor d_qkv = attention.call(input_gradient(d_mixed_out, in_.attention_output()), qkv,
                                        in_.cu_seqlens, in_.cos, in_.sin, mixed, lse, in_.heads,
                                        in_.kv_heads, in_.head_dim, in_.scale, in_.window);
    const Tensor d_projected = operand(d_qkv);
    const Tensor d_qkv_weight = weight_gradient(d_projected, normed);
    const auto [d_x, d_attention_norm] =
        norm_backward(input_gradient(d_projected, in_.qkv()), x, in_.attention_norm(), d_middle);
    std::vector<Tensor> out{d_x,        d_attention_norm, d_qkv_weight, d_attention_output,
                            d_mlp_norm, d_gate_up_weight, d_down};
    if (in_.has_bias()) out.push_back(d_qkv.sum(0));
    return out;
  }

 private:
  static constexpr auto kOperand = c10::CppTypeToScalarType<G>::value;

  Tensor like(int64_t columns) const { return at::empty({rows_, columns}, in_.x.options()); }
  Tensor operand_like(int64_t columns) const {
    return at::empty({rows_, columns}, in_.x.options().dtype(kOperand));
  }
  static Tensor operand(In x) { return x.to(kOperand).contiguous(); }

  template <typename Visit>
  void for_rows(const Visit& visit) const {
    at::parallel_for(0, rows_, kRows,
                     [&](int64_t begin, int64_t end) { visit(begin, end - begin); });
  }

  Tensor norm(In x, In weight) const {
    const Tensor w = weight.contiguous(), y = operand_like(width_);
    for_rows([&](int64_t begin, int64_t count) {
      rms_norm_rows<T, G>(data<T>(x) + begin * width_, data<T>(w), out_data<G>(y) + begin * width_,
                          count, width_, static_cast<T>(in_.eps));
    });
    return y;
  }

  /// {residual + gradient of x, gradient of the weight}; the latter summed by blocks of kRows in
  /// order, whatever the threads.
  std::pair<Tensor, Tensor> norm_backward(In grad, In x, In weight, In residual) const {
    const Tensor w = weight.contiguous(), d_x = like(width_);
    const int64_t blocks = (rows_ + kRows - 1) / kRows;
    const Tensor parts = at::zeros({blocks, width_}, weight.options());
    at::parallel_for(0, blocks, 1, [&](int64_t first, int64_t last) {
      for (int64_t b = first; b < last; ++b) {
        const int64_t at = b * kRows * width_;
        rms_norm_backward_rows<T>(
            data<T>(grad) + at, data<T>(x) + at, data<T>(w), data<T>(residual) + at,
            out_data<T>(d_x) + at, out_data<T>(parts) + b * width_,
            std::min(kRows, rows_ - b * kRows), width_, static_cast<T>(in_.eps));
      }
    });
    Tensor d_weight = at::zeros({width_}, weight.options());
    T* total = out_data<T>(d_weight);
    const T* part = data<T>(parts);
    for (int64_t b = 0; b < blocks; ++b, part += width_) {
      for (int64_t j = 0; j < width_; ++j) total[j] += part[j];
    }
    return {d_x, d_weight};
  }

  /// y (+)= x weight^T
  void product(In x, In weight, bool accumulate, In y) const {
    const Tensor w = operand(weight);
    gemm(Layout::kPlain, Layout::kTransposed, rows_, w.size(0), w.size(1), data<G>(x), data<G>(w),
         accumulate, out_data<T>(y));
  }
  Tensor input_gradient(In d_y, In weight) const {
    const Tensor w = operand(weight);
    Tensor d_x = like(w.size(1));
    gemm(Layout::kPlain, Layout::kPlain, rows_, w.size(1), w.size(0), data<G>(d_y), data<G>(w),
         false, out_data<T>(d_x));
    return d_x;
  }
  Tensor weight_gradient(In d_y, In x) const {
    Tensor d_w = at::empty({d_y.size(1), x.size(1)}, in_.x.options());
    gemm(Layout::kTransposed, Layout::kPlain, d_y.size(1), x.size(1), rows_, data<G>(d_y),
         data<G>(x), false, out_data<T>(d_w));
    return d_w;
  }

  const BlockArguments& in_;
  int64_t rows_, width_;
};

template <typename Run>
std::vector<Tensor> with_block(const BlockArguments& in, const Run& run) {
  if (in.x.scalar_type() == at::kDouble) return run(Block<double, double>(in));
  if (in.bfloat16) return run(Block<float, c10::BFloat16>(in));
  return run(Block<float, float>(in));
}

std::vector<Tensor> forward_cpu(In x, at::TensorList weights, In cu_seqlens, In cos, In sin,
                                int64_t heads, int64_t kv_heads, int64_t head_dim, double scale,
                                int64_t window, double eps, bool bfloat16) {
  const BlockArguments in(x, weights, cu_seqlens, cos, sin, heads, kv_heads, head_dim, scale,
                          window, eps, bfloat16);
  return with_block(in, [](const auto& block) { return block.forward(); });
}

Tensor block_cpu(In x, at::TensorList weights, In cu_seqlens, In cos, In sin, int64_t heads,
                 int64_t kv_heads, int64_t head_dim, double scale, int64_t window, double eps,
                 bool bfloat16) {
  return forward_cpu(x, weights, cu_seqlens, cos, sin, heads, kv_heads, head_dim, scale, window,
                     eps, bfloat16)[0];
}

std::vector<Tensor> backward_cpu(In grad, at::TensorList saved, In x, at::TensorList weights,
                                 In cu_seqlens, In cos, In sin, int64_t heads, int64_t kv_heads,
                                 int64_t head_dim, double scale, int64_t window, double eps,
                                 bool bfloat16) {
  const BlockArguments in(x, weights, cu_seqlens, cos, sin, heads, kv_heads, head_dim, scale,
                          window, eps, bfloat16);
  return with_block(in, [&](const auto& block) { return block.backward(grad, saved); });
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CPU, m) {
  m.impl("transformer_block", &block_cpu);
  m.impl("_transformer_block_forward", &forward_cpu);
  m.impl("_transformer_block_backward", &backward_cpu);
}

}  // namespace hone::kernels
