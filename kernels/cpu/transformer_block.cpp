// A whole block of a Llama-like transformer as one op: what the ops of the same names compute one
// after the other, with the products in the type that the caller asks for and no passes between.

#include "kernels/transformer_block.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <optional>
#include <type_traits>
#include <vector>

#include "kernels/cpu/amx_transformer_block.h"
#include "kernels/cpu/attention_item.h"
#include "kernels/cpu/block_chunks.h"
#include "kernels/cpu/block_gradients.h"
#include "kernels/cpu/parallel_items.h"
#include "kernels/cpu/row_kernels.h"
#include "kernels/gemm.h"
#include "kernels/threads.h"

namespace hone::kernels {
namespace {

using at::Tensor;
using In = const Tensor&;
using Selection = const std::optional<Tensor>&;

constexpr int64_t kRows = kNormRows;  // of one task of a row pass

template <typename T>
const T* data(In x) {
  return x.const_data_ptr<T>();
}
template <typename T>
T* out_data(In x) {
  return x.mutable_data_ptr<T>();
}

/// Consecutive rows of a chunk, or of its result.
struct Rows {
  int64_t begin, count;
};

/// The passes of one block, chunk by chunk of sequences. T: residual stream and sums; G: operands
/// of matrix products. What only the next pass reads exists for a few rows at a time, which stay in
/// the second-level cache.
template <typename T, typename G>
class Block {
 public:
  explicit Block(const BlockArguments& in)
      : in_(in),
        shape_(in.attention()),
        x_(in.x.contiguous()),
        cu_(in.cu_seqlens.contiguous()),
        cos_(in.cos.contiguous()),
        sin_(in.sin.contiguous()),
        rows_(in.x.size(0)),
        result_rows_(in.result_rows()),
        width_(in.x.size(1)),
        gate_(in.gate_up().size(0) / 2),
        mixed_(in.heads * in.head_dim),
        qkv_(in.qkv().size(0)),
        few_(std::min(rows_at_a_time(), rows_)),
        qkv_weight_(operand(in.qkv())),
        output_weight_(operand(in.attention_output())),
        gate_up_weight_(operand(in.gate_up())),
        down_weight_(operand(in.down())) {
    cut_chunks();
  }

  /// With `keep` also what backward reads.
  std::vector<Tensor> forward(bool keep) const {
    const int64_t held = keep ? rows_ : most_, held_results = keep ? result_rows_ : few_;
    const Tensor out = matrix<T>(result_rows_, width_), qkv = matrix<T>(held, qkv_);
    const Tensor mixed = matrix<G>(held, mixed_), lse = matrix<T>(shape_.heads, held);
    const Tensor middle = matrix<T>(held_results, width_);
    const Tensor gate_up = matrix<T>(kKeepsGate ? held_results : few_, 2 * gate_);
    const Tensor normed = matrix<G>(few_, width_), gated = matrix<G>(few_, gate_);
    const int64_t chosen = in_.rows.defined() ? few_ : 0;
    const Tensor gathered = matrix<G>(chosen, mixed_), gathered_x = matrix<T>(chosen, width_);
    const Tensor attended = kKeepsGate ? mixed : matrix<T>(most_, mixed_);
    for (const BlockChunk& chunk : chunks_) {
      const int64_t place = keep ? chunk.row : 0;
      const T* x = row<T>(x_, chunk.row);
      T* qkv_rows = out_row<T>(qkv, place);
      G* mixed_rows = out_row<G>(mixed, place);
      in_turn(chunk.rows, [&](Rows r) {
        norm(r.count, x + r.begin * width_, in_.attention_norm(), out_row<G>(normed));
        T* to = qkv_rows + r.begin * qkv_;
        if (in_.has_bias()) repeat(in_.qkv_bias(), r.count, to);
        product(r.count, row<G>(normed), qkv_weight_, in_.has_bias(), to);
      });
      AttentionTask<T> task = attention(chunk, qkv_rows, out_row<T>(lse) + place, held);
      task.out = out_row<T>(attended, kKeepsGate ? place : 0);
      for_heads(chunk, task, attention_forward_item<T>);
      if constexpr (!kKeepsGate) convert(chunk.rows, mixed_, row<T>(attended), mixed_rows);
      const ResultRows result(chunk, in_.rows);
      in_turn(result.count, [&](Rows r) {
        const int64_t at = result.first + r.begin, held_at = keep ? at : 0;
        T *middle_rows = out_row<T>(middle, held_at), *out_rows = out_row<T>(out, at);
        T* gate_up_rows = out_row<T>(gate_up, kKeepsGate ? held_at : 0);
        copy(r.count, result.gathered(r.begin, r.count, x, width_, out_row<T>(gathered_x)),
             middle_rows);
        product(r.count,
                result.gathered<G>(r.begin, r.count, mixed_rows, mixed_, out_row<G>(gathered)),
                output_weight_, true, middle_rows);
        norm(r.count, middle_rows, in_.mlp_norm(), out_row<G>(normed));
        product(r.count, row<G>(normed), gate_up_weight_, false, gate_up_rows);
        for_rows(r.count, [&](int64_t begin, int64_t count) {
          swiglu_rows<T, G>(gate_up_rows + begin * 2 * gate_, out_row<G>(gated, begin), count,
                            gate_);
        });
        copy(r.count, middle_rows, out_rows);
        product(r.count, row<G>(gated), down_weight_, true, out_rows);
      });
    }
    std::vector<Tensor> results{out, qkv, mixed, lse, middle};
    if (kKeepsGate) results.push_back(gate_up);
    return results;
  }

  /// Gradients of x and of the weights in their order. What the norms and the gate gave is made
  /// again beside their gradients: that costs less than to keep it, a third of all activations.
  std::vector<Tensor> backward(In grad, at::TensorList saved) const {
    const Tensor &qkv = saved[0], &mixed = saved[1], &lse = saved[2], &middle = saved[3];
    const Tensor gate_up = kKeepsGate ? saved[4] : matrix<T>(few_, 2 * gate_);
    const Tensor d_out = grad.contiguous(), attended = kKeepsGate ? mixed : mixed.to(kStream);
    const Tensor d_sum = matrix<G>(few_, width_), normed = matrix<G>(few_, width_);
    const Tensor d_gated = matrix<T>(few_, gate_), gated = matrix<G>(few_, gate_);
    const Tensor d_gate_up = matrix<G>(few_, 2 * gate_), d_normed = matrix<T>(few_, width_);
    const Tensor d_projected = matrix<G>(few_, qkv_);
    const bool all = !in_.rows.defined();
    const int64_t chosen = all ? 0 : few_;
    const Tensor gathered = matrix<G>(chosen, mixed_), d_gathered = matrix<T>(chosen, mixed_);
    const Tensor d_middle_few = matrix<T>(chosen, width_);
    // Of a chunk.
    const Tensor d_middle = matrix<T>(most_, width_), d_attended = matrix<T>(most_, mixed_);
    const Tensor d_qkv = matrix<T>(most_, qkv_);
    const Tensor d_x = matrix<T>(rows_, width_);
    WeightGradients<T, G> output(result_rows_), input(rows_);
    const Tensor d_attention_output = output.matrix(in_.attention_output()),
                 d_down = output.matrix(in_.down()),
                 d_gate_up_weight = output.matrix(in_.gate_up()),
                 d_qkv_weight = input.matrix(in_.qkv());
    NormGradient<T> attention_norm(in_.attention_norm()), mlp_norm(in_.mlp_norm());
    const Tensor d_bias = at::zeros({in_.has_bias() ? qkv_ : 0}, x_.options());
    for (const BlockChunk& chunk : chunks_) {
      const ResultRows result(chunk, in_.rows);
      if (!all) {
        d_middle.narrow(0, 0, chunk.rows).zero_();
        d_attended.narrow(0, 0, chunk.rows).zero_();
      }
      in_turn(result.count, [&](Rows r) {
        const int64_t at = result.first + r.begin;
        const T *middle_rows = row<T>(middle, at), *d_out_rows = row<T>(d_out, at);
        const T* gate_up_rows = row<T>(gate_up, kKeepsGate ? at : 0);
        if constexpr (!kKeepsGate) {
          norm(r.count, middle_rows, in_.mlp_norm(), out_row<G>(normed));
          product(r.count, row<G>(normed), gate_up_weight_, false, out_row<T>(gate_up));
        }
        const G* d_out_operand = operand(r.count, d_out_rows, d_sum);
        input_gradient(r.count, d_out_operand, down_weight_, out_row<T>(d_gated));
        for_rows(r.count, [&](int64_t begin, int64_t count) {
          swiglu_backward_rows<T, G>(row<T>(d_gated, begin), gate_up_rows + begin * 2 * gate_,
                                     out_row<G>(d_gate_up, begin), out_row<G>(gated, begin), count,
                                     gate_);
        });
        output.add(r.count, d_out_operand, row<G>(gated), d_down);
        input_gradient(r.count, row<G>(d_gate_up), gate_up_weight_, out_row<T>(d_normed));
        T* d_middle_rows = all ? out_row<T>(d_middle, r.begin) : out_row<T>(d_middle_few);
        norm_backward(r.count, row<T>(d_normed), middle_rows, d_out_rows, mlp_norm, d_middle_rows,
                      out_row<G>(normed));
        output.add(r.count, row<G>(d_gate_up), row<G>(normed), d_gate_up_weight);
        const G* d_middle_operand = operand(r.count, d_middle_rows, d_sum);
        output.add(r.count, d_middle_operand,
                   result.gathered<G>(r.begin, r.count, row<G>(mixed, chunk.row), mixed_,
                                      out_row<G>(gathered)),
                   d_attention_output);
        T* d_attended_rows = all ? out_row<T>(d_attended, r.begin) : out_row<T>(d_gathered);
        input_gradient(r.count, d_middle_operand, output_weight_, d_attended_rows);
        result.spread(r.begin, r.count, d_middle_rows, width_, out_row<T>(d_middle));
        result.spread(r.begin, r.count, d_attended_rows, mixed_, out_row<T>(d_attended));
        output.begun();
      });
      AttentionTask<T> task =
          attention(chunk, row<T>(qkv, chunk.row), out_row<T>(lse) + chunk.row, rows_);
      task.out = out_row<T>(attended, chunk.row);
      task.grad = row<T>(d_attended);
      task.d_qkv = out_row<T>(d_qkv);
      for_heads(chunk, task, attention_backward_item<T>);
      in_turn(chunk.rows, [&](Rows r) {
        const int64_t at = chunk.row + r.begin;
        const G* d_qkv_rows = operand(r.count, row<T>(d_qkv, r.begin), d_projected);
        input_gradient(r.count, d_qkv_rows, qkv_weight_, out_row<T>(d_normed));
        norm_backward(r.count, row<T>(d_normed), row<T>(x_, at), row<T>(d_middle, r.begin),
                      attention_norm, out_row<T>(d_x, at), out_row<G>(normed));
        input.add(r.count, d_qkv_rows, row<G>(normed), d_qkv_weight);
        input.begun();
      });
      if (in_.has_bias()) d_bias.add_(d_qkv.narrow(0, 0, chunk.rows).sum(0));
    }
    std::vector<Tensor> out{d_x,
                            attention_norm.total(),
                            d_qkv_weight,
                            d_attention_output,
                            mlp_norm.total(),
                            d_gate_up_weight,
                            d_down};
    if (in_.has_bias()) out.push_back(d_bias);
    return out;
  }

 private:
  static constexpr auto kStream = c10::CppTypeToScalarType<T>::value;
  static constexpr auto kOperand = c10::CppTypeToScalarType<G>::value;
  // Where products are cheap, making the gate's input again costs less than to write and read it.
  static constexpr bool kKeepsGate = std::is_same_v<T, G>;

  /// A multiple of kRows. Weights that leave a second-level cache no room are better read once.
  int64_t rows_at_a_time() const {
    constexpr int64_t kCached = 1 << 17, kRowsOfThread = 2 * kRows;
    return 2 * gate_ * width_ <= kCached ? kRowsOfThread * at::get_num_threads()
                                         : std::max<int64_t>(rows_, 1);
  }

  void cut_chunks() {
    const auto* cu = data<int64_t>(cu_);
    const int64_t sequences = cu_.size(0) - 1;
    for (int64_t s = 0; s < sequences;) {
      BlockChunk chunk{.row = cu[s]};
      do {
        chunk.add(cu[s + 1] - cu[s]);
      } while (++s < sequences && cu[s + 1] - chunk.row <= few_);
      most_ = std::max(most_, chunk.rows);
      if (chunk.rows > 0) chunks_.push_back(std::move(chunk));
    }
  }

  template <typename E>
  Tensor matrix(int64_t rows, int64_t columns) const {
    return at::empty({rows, columns}, x_.options().dtype(c10::CppTypeToScalarType<E>::value));
  }
  template <typename E>
  static const E* row(In x, int64_t r = 0) {
    return data<E>(x) + r * x.size(1);
  }
  template <typename E>
  static E* out_row(In x, int64_t r = 0) {
    return out_data<E>(x) + r * x.size(1);
  }
  static Tensor operand(In x) { return x.to(kOperand).contiguous(); }
  /// Rows [rows, width] as operands; `room` holds them where they are converted.
  static const G* operand(int64_t rows, const T* x, In room) {
    if constexpr (kKeepsGate) {
      return x;
    } else {
      convert(rows, room.size(1), x, out_row<G>(room));
      return row<G>(room);
    }
  }
  static void convert(int64_t rows, int64_t width, const T* from, G* to) {
    at::from_blob(to, {rows, width}, at::TensorOptions().dtype(kOperand))
        .copy_(
            at::from_blob(const_cast<T*>(from), {rows, width}, at::TensorOptions().dtype(kStream)));
  }

  template <typename Visit>
  void in_turn(int64_t rows, const Visit& visit) const {
    for (int64_t begin = 0; begin < rows; begin += few_) {
      visit(Rows{begin, std::min(few_, rows - begin)});
    }
  }
  template <typename Visit>
  static void for_rows(int64_t rows, const Visit& visit) {
    at::parallel_for(0, rows, kRows,
                     [&](int64_t begin, int64_t end) { visit(begin, end - begin); });
  }

  /// Of a chunk whose rows begin at these places of what is held.
  AttentionTask<T> attention(const BlockChunk& chunk, const T* qkv, T* lse, int64_t tokens) const {
    return {shape_, chunk.cu.data(), qkv,     data<T>(cos_), data<T>(sin_), nullptr,
            lse,    nullptr,         nullptr, tokens};
  }
  template <typename Item>
  static void for_heads(const BlockChunk& chunk, const AttentionTask<T>& task, const Item& item) {
    const int64_t kv_heads = task.shape.kv_heads;
    parallel_items(chunk.sequences() * kv_heads, [&] {
      return [&, scratch = AttentionScratch<T>()](int64_t i) mutable {
        const FlushedDenormals flushed;
        item(task, i / kv_heads, i % kv_heads, scratch);
      };
    });
  }

  void copy(int64_t rows, const T* from, T* to) const {
    for_rows(rows, [&](int64_t begin, int64_t count) {
      std::copy_n(from + begin * width_, count * width_, to + begin * width_);
    });
  }
  static void repeat(In vector, int64_t rows, T* to) {
    const Tensor v = vector.contiguous();
    for (int64_t i = 0; i < rows; ++i) std::copy_n(data<T>(v), v.size(0), to + i * v.size(0));
  }

  /// y = norm(x)
  void norm(int64_t rows, const T* x, In weight, G* y) const {
    const Tensor w = weight.contiguous();
    for_rows(rows, [&](int64_t begin, int64_t count) {
      rms_norm_rows<T, G>(x + begin * width_, data<T>(w), y + begin * width_, count, width_,
                          static_cast<T>(in_.eps));
    });
  }

  /// d_x = residual + gradient of x; y = norm(x).
  void norm_backward(int64_t rows, const T* grad, const T* x, const T* residual,
                     NormGradient<T>& norm, T* d_x, G* y) const {
    const int64_t blocks = (rows + kRows - 1) / kRows;
    T* parts = norm.more(blocks);
    at::parallel_for(0, blocks, 1, [&](int64_t first, int64_t last) {
      for (int64_t b = first; b < last; ++b) {
        const int64_t at = b * kRows * width_;
        rms_norm_backward_rows<T, G>(
            grad + at, x + at, data<T>(norm.weight), residual + at, d_x + at, parts + b * width_,
            y + at, std::min(kRows, rows - b * kRows), width_, static_cast<T>(in_.eps));
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

  const BlockArguments& in_;
  AttentionShape shape_;
  Tensor x_, cu_, cos_, sin_;
  int64_t rows_, result_rows_, width_, gate_, mixed_, qkv_;
  int64_t few_, most_ = 0;  // rows at a time; of the largest chunk
  Tensor qkv_weight_, output_weight_, gate_up_weight_, down_weight_;
  std::vector<BlockChunk> chunks_;
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
  return with_block(in, [](const auto& block) { return block.forward(true); });
}

Tensor block_cpu(In x, at::TensorList weights, In cu_seqlens, In cos, In sin, int64_t heads,
                 int64_t kv_heads, int64_t head_dim, double scale, int64_t window, double eps,
                 bool bfloat16, Selection rows) {
  const BlockArguments in(x, weights, cu_seqlens, cos, sin, heads, kv_heads, head_dim, scale,
                          window, eps, bfloat16, rows);
  if (bfloat16 && amx_suits(block_shape(in))) return amx_block_forward(in, false)[0];
  return with_block(in, [](const auto& block) { return block.forward(false); })[0];
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
