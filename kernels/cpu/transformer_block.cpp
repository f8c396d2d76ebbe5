// A whole block of a Llama-like transformer as one op: what the ops of the same names compute one
// after the other, with the products in the type that the caller asks for and no passes between.

#include "kernels/transformer_block.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <optional>
#include <type_traits>
#include <vector>

#include "kernels/cpu/amx_transformer_block.h"
#include "kernels/cpu/row_kernels.h"
#include "kernels/gemm.h"

namespace hone::kernels {
namespace {

using at::Tensor;
using In = const Tensor&;
using Selection = const std::optional<Tensor>&;

constexpr int64_t kRows = 128;  // of one task of a row pass; also a share of a norm's d weight

template <typename T>
const T* data(In x) {
  return x.const_data_ptr<T>();
}
template <typename T>
T* out_data(In x) {
  return x.mutable_data_ptr<T>();
}

/// Consecutive rows of the batch.
struct Rows {
  int64_t begin, count;
};

/// The passes of one block. T: residual stream and sums; G: operands of matrix products. What only
/// the next pass reads exists for a few rows at a time, which stay in the second-level cache.
template <typename T, typename G>
class Block {
 public:
  explicit Block(const BlockArguments& in)
      : in_(in),
        rows_(in.x.size(0)),
        result_rows_(in.result_rows()),
        width_(in.x.size(1)),
        gate_(in.gate_up().size(0) / 2),
        at_a_time_(rows_at_a_time()),
        qkv_weight_(operand(in.qkv())),
        output_weight_(operand(in.attention_output())),
        gate_up_weight_(operand(in.gate_up())),
        down_weight_(operand(in.down())) {}

  std::vector<Tensor> forward() const {
    const Tensor x = in_.x.contiguous(), normed = few<G>(width_), gated = few<G>(gate_);
    const Tensor qkv = matrix(rows_, in_.qkv().size(0));
    if (in_.has_bias()) qkv.copy_(in_.qkv_bias().expand_as(qkv));
    in_turn(rows_, [&](Rows r) {
      norm(r, x, in_.attention_norm(), normed);
      product(r.count, data<G>(normed), qkv_weight_, in_.has_bias(), out_row<T>(qkv, r));
    });
    const auto [attended, lse] = in_.attention(qkv);
    const Tensor mixed = operand(attended), mixed_on = selected(mixed), x_on = selected(x);
    const Tensor middle = matrix(result_rows_, width_), out = matrix(result_rows_, width_);
    const Tensor gate_up = kKeepsGate ? matrix(result_rows_, 2 * gate_) : few<T>(2 * gate_);
    in_turn(result_rows_, [&](Rows r) {
      copy(r, x_on, middle);
      product(r.count, row<G>(mixed_on, r), output_weight_, true, out_row<T>(middle, r));
      norm(r, middle, in_.mlp_norm(), normed);
      T* gate_up_rows = kKeepsGate ? out_row<T>(gate_up, r) : out_data<T>(gate_up);
      product(r.count, data<G>(normed), gate_up_weight_, false, gate_up_rows);
      for_rows(r.count, [&](int64_t begin, int64_t count) {
        swiglu_rows<T, G>(gate_up_rows + begin * 2 * gate_, out_data<G>(gated) + begin * gate_,
                          count, gate_);
      });
      copy(r, middle, out);
      product(r.count, data<G>(gated), down_weight_, true, out_row<T>(out, r));
    });
    std::vector<Tensor> results{out, qkv, mixed, lse, middle};
    if (kKeepsGate) results.push_back(gate_up);
    return results;
  }

  /// Gradients of x and of the weights in their order. What the norms and the gate gave is made
  /// again beside their gradients: that costs less than to keep it, a third of all activations.
  std::vector<Tensor> backward(In grad, at::TensorList saved) const {
    const Tensor &qkv = saved[0], &mixed = saved[1], &lse = saved[2], &middle = saved[3];
    const Tensor d_out = grad.contiguous(), x = in_.x.contiguous(), mixed_on = selected(mixed);
    const Tensor gate_up = kKeepsGate ? saved[4] : few<T>(2 * gate_);
    const int64_t heads = mixed.size(1);
    const Tensor d_sum = few<G>(width_), d_gated = few<T>(gate_), gated = few<G>(gate_);
    const Tensor d_gate_up = few<G>(2 * gate_), d_normed = few<T>(width_), normed = few<G>(width_);
    const Tensor d_middle = matrix(result_rows_, width_), d_attended = matrix(result_rows_, heads);
    const Tensor d_x = matrix(rows_, width_);
    const Tensor d_attention_output = weight_gradient(width_, heads),
                 d_down = weight_gradient(width_, gate_),
                 d_gate_up_weight = weight_gradient(2 * gate_, width_),
                 d_qkv_weight = weight_gradient(qkv.size(1), width_);
    NormGradient attention_norm(in_.attention_norm(), rows_);
    NormGradient mlp_norm(in_.mlp_norm(), result_rows_);
    in_turn(result_rows_, [&](Rows r) {
      const T* gate_up_rows = data<T>(gate_up);
      if constexpr (kKeepsGate) {
        gate_up_rows = row<T>(gate_up, r);
      } else {
        norm(r, middle, in_.mlp_norm(), normed);
        product(r.count, data<G>(normed), gate_up_weight_, false, out_data<T>(gate_up));
      }
      const G* d_out_rows = operand(r, d_out, d_sum);
      input_gradient(r.count, d_out_rows, down_weight_, out_data<T>(d_gated));
      for_rows(r.count, [&](int64_t begin, int64_t count) {
        swiglu_backward_rows<T, G>(data<T>(d_gated) + begin * gate_,
                                   gate_up_rows + begin * 2 * gate_,
                                   out_data<G>(d_gate_up) + begin * 2 * gate_,
                                   out_data<G>(gated) + begin * gate_, count, gate_);
      });
      add_weight_gradient(r, d_out_rows, data<G>(gated), d_down);
      input_gradient(r.count, data<G>(d_gate_up), gate_up_weight_, out_data<T>(d_normed));
      norm_backward(r, d_normed, middle, d_out, mlp_norm, d_middle, normed);
      add_weight_gradient(r, data<G>(d_gate_up), data<G>(normed), d_gate_up_weight);
      const G* d_middle_rows = operand(r, d_middle, d_sum);
      add_weight_gradient(r, d_middle_rows, row<G>(mixed_on, r), d_attention_output);
      input_gradient(r.count, d_middle_rows, output_weight_, out_row<T>(d_attended, r));
    });
    const Tensor d_qkv = in_.attention_backward(spread(d_attended), qkv, mixed, lse);
    const Tensor d_projected = few<G>(qkv.size(1)), residual = spread(d_middle);
    in_turn(rows_, [&](Rows r) {
      const G* d_qkv_rows = operand(r, d_qkv, d_projected);
      input_gradient(r.count, d_qkv_rows, qkv_weight_, out_data<T>(d_normed));
      norm_backward(r, d_normed, x, residual, attention_norm, d_x, normed);
      add_weight_gradient(r, d_qkv_rows, data<G>(normed), d_qkv_weight);
    });
    std::vector<Tensor> out{d_x,
                            attention_norm.total(),
                            d_qkv_weight,
                            d_attention_output,
                            mlp_norm.total(),
                            d_gate_up_weight,
                            d_down};
    if (in_.has_bias()) out.push_back(d_qkv.sum(0));
    return out;
  }

 private:
  static constexpr auto kOperand = c10::CppTypeToScalarType<G>::value;
  // Where products are cheap, making the gate's input again costs less than to write and read it.
  static constexpr bool kKeepsGate = std::is_same_v<T, G>;

  /// A norm's d weight, summed by blocks of kRows in order, whatever the threads.
  struct NormGradient {
    Tensor weight, parts;  // [blocks, H]

    NormGradient(In weight, int64_t rows)
        : weight(weight.contiguous()),
          parts(at::zeros({(rows + kRows - 1) / kRows, weight.size(0)}, weight.options())) {}

    Tensor total() const {
      const int64_t width = parts.size(1);
      const Tensor sum = at::zeros({width}, parts.options());
      T* to = out_data<T>(sum);
      const T* part = data<T>(parts);
      for (int64_t b = 0; b < parts.size(0); ++b, part += width) {
        for (int64_t j = 0; j < width; ++j) to[j] += part[j];
      }
      return sum;
    }
  };

  /// A multiple of kRows. Weights that leave a second-level cache no room are better read once.
  int64_t rows_at_a_time() const {
    constexpr int64_t kCached = 1 << 17, kRowsOfThread = 2 * kRows;
    return 2 * gate_ * width_ <= kCached ? kRowsOfThread * at::get_num_threads()
                                         : std::max<int64_t>(rows_, 1);
  }

  Tensor matrix(int64_t rows, int64_t columns) const {
    return at::empty({rows, columns}, in_.x.options());
  }
  /// The rows that the result has.
  Tensor selected(In x) const { return in_.rows.defined() ? x.index_select(0, in_.rows) : x; }
  /// Their gradients among zeros.
  Tensor spread(In grad) const {
    if (!in_.rows.defined()) return grad;
    return at::zeros({rows_, grad.size(1)}, grad.options()).index_copy_(0, in_.rows, grad);
  }
  template <typename E>
  Tensor few(int64_t columns) const {
    return at::empty({std::min(at_a_time_, rows_), columns},
                     in_.x.options().dtype(c10::CppTypeToScalarType<E>::value));
  }
  /// Zeros where no rows will be added.
  Tensor weight_gradient(int64_t rows, int64_t columns) const {
    return result_rows_ == 0 ? at::zeros({rows, columns}, in_.x.options())
                             : at::empty({rows, columns}, in_.x.options());
  }
  template <typename E>
  static const E* row(In x, Rows r) {
    return data<E>(x) + r.begin * x.size(1);
  }
  template <typename E>
  static E* out_row(In x, Rows r) {
    return out_data<E>(x) + r.begin * x.size(1);
  }
  static Tensor operand(In x) { return x.to(kOperand).contiguous(); }
  /// Rows of x as operands; `room` holds them where they are converted.
  static const G* operand(Rows r, In x, In room) {
    if constexpr (std::is_same_v<T, G>) return row<G>(x, r);
    room.narrow(0, 0, r.count).copy_(x.narrow(0, r.begin, r.count));
    return data<G>(room);
  }

  template <typename Visit>
  void in_turn(int64_t rows, const Visit& visit) const {
    for (int64_t begin = 0; begin < rows; begin += at_a_time_) {
      visit(Rows{begin, std::min(at_a_time_, rows - begin)});
    }
  }
  template <typename Visit>
  static void for_rows(int64_t rows, const Visit& visit) {
    at::parallel_for(0, rows, kRows,
                     [&](int64_t begin, int64_t end) { visit(begin, end - begin); });
  }

  static void copy(Rows r, In from, In to) {
    const int64_t width = from.size(1);
    for_rows(r.count, [&](int64_t begin, int64_t count) {
      std::copy_n(row<T>(from, r) + begin * width, count * width,
                  out_row<T>(to, r) + begin * width);
    });
  }

  /// y = norm(rows of x)
  void norm(Rows r, In x, In weight, In y) const {
    const Tensor w = weight.contiguous();
    for_rows(r.count, [&](int64_t begin, int64_t count) {
      rms_norm_rows<T, G>(row<T>(x, r) + begin * width_, data<T>(w),
                          out_data<G>(y) + begin * width_, count, width_, static_cast<T>(in_.eps));
    });
  }

  /// Rows of d_x = residual + gradient of x; y = norm(rows of x).
  void norm_backward(Rows r, In grad, In x, In residual, const NormGradient& norm, In d_x,
                     In y) const {
    at::parallel_for(0, (r.count + kRows - 1) / kRows, 1, [&](int64_t first, int64_t last) {
      for (int64_t b = first; b < last; ++b) {
        const int64_t at = b * kRows * width_;
        rms_norm_backward_rows<T, G>(data<T>(grad) + at, row<T>(x, r) + at, data<T>(norm.weight),
                                     row<T>(residual, r) + at, out_row<T>(d_x, r) + at,
                                     out_data<T>(norm.parts) + (r.begin / kRows + b) * width_,
                                     out_data<G>(y) + at, std::min(kRows, r.count - b * kRows),
                                     width_, static_cast<T>(in_.eps));
      }
    });
  }

  /// y (+)= x weight^T
  static void product(int64_t rows, const G* x, In weight, bool accumulate, T* y) {
    gemm(Layout::kPlain, Layout::kTransposed, rows, weight.size(0), weight.size(1), x,
         data<G>(weight), accumulate, y);
  }
  static void input_gradient(int64_t rows, const G* d_y, In weight, T* d_x) {
    gemm(Layout::kPlain, Layout::kPlain, rows, weight.size(1), weight.size(0), d_y, data<G>(weight),
         false, d_x);
  }
  static void add_weight_gradient(Rows r, const G* d_y, const G* x, In d_w) {
    gemm(Layout::kTransposed, Layout::kPlain, d_w.size(0), d_w.size(1), r.count, d_y, x,
         r.begin > 0, out_data<T>(d_w));
  }

  const BlockArguments& in_;
  int64_t rows_, result_rows_, width_, gate_, at_a_time_;
  Tensor qkv_weight_, output_weight_, gate_up_weight_, down_weight_;
};

template <typename Run>
std::vector<Tensor> with_block(const BlockArguments& in, const Run& run) {
  if (in.x.scalar_type() == at::kDouble) return run(Block<double, double>(in));
  if (in.bfloat16) return run(Block<float, c10::BFloat16>(in));
  return run(Block<float, float>(in));
}

std::vector<Tensor> forward_cpu(In x, at::TensorList weights, In cu_seqlens, In cos, In sin,
                                int64_t heads, int64_t kv_heads, int64_t head_dim, double scale,
                                int64_t window, double eps, bool bfloat16, Selection rows) {
  const BlockArguments in(x, weights, cu_seqlens, cos, sin, heads, kv_heads, head_dim, scale,
                          window, eps, bfloat16, rows);
  if (bfloat16 && amx_suits(block_shape(in))) return amx_block_forward(in, true);
  return with_block(in, [](const auto& block) { return block.forward(); });
}

Tensor block_cpu(In x, at::TensorList weights, In cu_seqlens, In cos, In sin, int64_t heads,
                 int64_t kv_heads, int64_t head_dim, double scale, int64_t window, double eps,
                 bool bfloat16, Selection rows) {
  const BlockArguments in(x, weights, cu_seqlens, cos, sin, heads, kv_heads, head_dim, scale,
                          window, eps, bfloat16, rows);
  if (bfloat16 && amx_suits(block_shape(in))) return amx_block_forward(in, false)[0];
  return with_block(in, [](const auto& block) { return block.forward(); })[0];
}

std::vector<Tensor> backward_cpu(In grad, at::TensorList saved, In x, at::TensorList weights,
                                 In cu_seqlens, In cos, In sin, int64_t heads, int64_t kv_heads,
                                 int64_t head_dim, double scale, int64_t window, double eps,
                                 bool bfloat16, Selection rows) {
  const BlockArguments in(x, weights, cu_seqlens, cos, sin, heads, kv_heads, head_dim, scale,
                          window, eps, bfloat16, rows);
  if (bfloat16 && amx_suits(block_shape(in))) return amx_block_backward(in, grad, saved);
  return with_block(in, [&](const auto& block) { return block.backward(grad, saved); });
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CPU, m) {
  m.impl("transformer_block", &block_cpu);
  m.impl("_transformer_block_forward", &forward_cpu);
  m.impl("_transformer_block_backward", &backward_cpu);
}

}  // namespace hone::kernels
