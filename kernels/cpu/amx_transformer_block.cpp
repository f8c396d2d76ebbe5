#include "kernels/cpu/amx_transformer_block.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <algorithm>
#include <vector>

#include "kernels/cpu/amx.h"
#include "kernels/cpu/amx_attention.h"
#include "kernels/cpu/amx_block.h"
#include "kernels/cpu/parallel_items.h"
#include "kernels/model_inputs.h"
#include "kernels/threads.h"

namespace hone::kernels {
namespace {

using at::Tensor;
using In = const Tensor&;

constexpr int64_t kTaskRows = 64;  // a multiple of the 32 that pass through a block together

const uint16_t* bits(In x) {
  return reinterpret_cast<const uint16_t*>(x.const_data_ptr<c10::BFloat16>());
}
uint16_t* mutable_bits(In x) {
  return reinterpret_cast<uint16_t*>(x.mutable_data_ptr<c10::BFloat16>());
}
float* row(In x, int64_t r) { return x.mutable_data_ptr<float>() + r * x.size(1); }
const float* const_row(In x, int64_t r) { return x.const_data_ptr<float>() + r * x.size(1); }

/// visit(share, first row, rows): one share of neighbouring rows for each thread.
template <typename Visit>
void in_shares(int64_t rows, const Visit& visit) {
  const int64_t threads = at::get_num_threads(), tasks = (rows + kTaskRows - 1) / kTaskRows;
  at::parallel_for(0, threads, 1, [&](int64_t first, int64_t last) {
    const FlushedDenormals flushed;
    for (int64_t share = first; share < last; ++share) {
      const int64_t begin = tasks * share / threads * kTaskRows;
      const int64_t end = std::min(rows, tasks * (share + 1) / threads * kTaskRows);
      if (begin < end) visit(share, begin, end - begin);
    }
  });
}

/// The op's arguments as the passes take them.
class Pass {
 public:
  explicit Pass(const BlockArguments& in)
      : rows_(in.x.size(0)),
        x_(in.x.contiguous()),
        cu_(in.cu_seqlens.contiguous()),
        cos_(in.cos.contiguous()),
        sin_(in.sin.contiguous()),
        window_(in.window),
        scale_(static_cast<float>(
            attention_shape(in.heads, in.kv_heads, in.head_dim, in.scale, in.window).scale)) {
    for (const Tensor& weight : in.weights) kept_.push_back(weight.contiguous());
    weights_.shape = block_shape(in);
    weights_.attention_norm = weight(0);
    weights_.mlp_norm = weight(3);
    weights_.qkv_bias = in.has_bias() ? weight(6) : nullptr;
    weights_.eps = static_cast<float>(in.eps);
    const auto* cu = cu_.const_data_ptr<int64_t>();
    for (int64_t s = 0; s + 1 < cu_.size(0); ++s) {
      for (int64_t t = 0; t < cu[s + 1] - cu[s]; ++t) positions_.push_back(t);
    }
  }

  std::vector<Tensor> forward() {
    weights_.pack_forward(matrices());
    const BlockShape& shape = weights_.shape;
    const auto narrow = x_.options().dtype(at::kBFloat16);
    const Tensor qkv = at::empty({rows_, shape.qkv()}, narrow);
    uint16_t* qkv_bits = mutable_bits(qkv);
    in_shares(rows_, [&](int64_t, int64_t r, int64_t count) {
      block_input_rows(weights_, rope(r, scale_ * kScoreUnit, 1.0F), const_row(x_, r),
                       qkv_bits + r * shape.qkv(), count);
    });
    const Tensor mixed = at::empty({rows_, shape.mixed()}, narrow);
    const Tensor lse = at::empty({shape.heads, rows_}, x_.options());
    attend(attention(qkv, mixed, lse), amx_attention_forward_item);
    const Tensor middle = at::empty_like(x_), out = at::empty_like(x_);
    in_shares(rows_, [&](int64_t, int64_t r, int64_t count) {
      block_output_rows(weights_, const_row(x_, r), bits(mixed) + r * shape.mixed(), row(middle, r),
                        row(out, r), count);
    });
    return {out, qkv, mixed, lse, middle};
  }

  std::vector<Tensor> backward(In grad, at::TensorList saved) {
    weights_.pack_backward(matrices());
    const BlockShape& shape = weights_.shape;
    const Tensor &qkv = saved[0], &mixed = saved[1], &lse = saved[2], &middle = saved[3];
    const Tensor d_out = grad.contiguous();
    const Tensor d_middle = at::empty_like(x_), d_x = at::empty_like(x_);
    const Tensor d_mixed = at::empty_like(mixed), d_qkv = at::empty(qkv.sizes(), x_.options());
    std::vector<BlockSums> sums(static_cast<size_t>(at::get_num_threads()), BlockSums(shape));
    in_shares(rows_, [&](int64_t share, int64_t r, int64_t count) {
      block_output_backward_rows(weights_, const_row(d_out, r), const_row(middle, r),
                                 bits(mixed) + r * shape.mixed(), row(d_middle, r),
                                 mutable_bits(d_mixed) + r * shape.mixed(),
                                 sums[static_cast<size_t>(share)], count);
    });
    AmxAttentionTask task = attention(qkv, mixed, lse);
    task.grad = bits(d_mixed);
    task.d_qkv = d_qkv.mutable_data_ptr<float>();
    attend(task, amx_attention_backward_item);
    in_shares(rows_, [&](int64_t share, int64_t r, int64_t count) {
      block_input_backward_rows(weights_, rope(r, scale_, 1.0F / kScoreUnit), const_row(d_qkv, r),
                                const_row(x_, r), const_row(d_middle, r), row(d_x, r),
                                sums[static_cast<size_t>(share)], count);
    });
    for (size_t share = 1; share < sums.size(); ++share) sums[0].add(sums[share]);
    std::vector<Tensor> out{d_x};
    for (const Tensor& weight : kept_) out.push_back(at::empty_like(weight));
    const auto data = [&](size_t i) { return out[1 + i].data_ptr<float>(); };
    sums[0].unpack(shape, data(1), data(2), data(4), data(5));
    std::copy_n(sums[0].attention_norm(), shape.width, data(0));
    std::copy_n(sums[0].mlp_norm(), shape.width, data(3));
    if (weights_.qkv_bias) std::copy_n(sums[0].qkv_bias(), shape.qkv(), data(6));
    return out;
  }

 private:
  const float* weight(size_t i) const { return kept_[i].const_data_ptr<float>(); }
  BlockMatrices matrices() const { return {weight(1), weight(2), weight(4), weight(5)}; }
  BlockRope rope(int64_t first, float query_scale, float key_scale) const {
    return {cos_.const_data_ptr<float>(), sin_.const_data_ptr<float>(), positions_.data() + first,
            query_scale, key_scale};
  }
  AmxAttentionTask attention(In qkv, In mixed, In lse) const {
    const BlockShape& shape = weights_.shape;
    return {shape.heads,
            shape.kv_heads,
            shape.head_dim,
            window_,
            cu_.const_data_ptr<int64_t>(),
            bits(qkv),
            mutable_bits(mixed),
            lse.mutable_data_ptr<float>(),
            nullptr,
            nullptr,
            rows_};
  }
  void attend(const AmxAttentionTask& task,
              void (*item)(const AmxAttentionTask&, int64_t, int64_t)) const {
    parallel_items((cu_.size(0) - 1) * task.kv_heads, [&] {
      return [&](int64_t i) {
        const FlushedDenormals flushed;
        item(task, i / task.kv_heads, i % task.kv_heads);
      };
    });
  }

  int64_t rows_;
  Tensor x_, cu_, cos_, sin_;
  int64_t window_;
  float scale_;
  std::vector<Tensor> kept_;
  std::vector<int64_t> positions_;
  BlockWeights weights_;
};

}  // namespace

bool amx_suits(const BlockShape& shape) { return shape.suits_tiles() && amx_usable(); }

BlockShape block_shape(const BlockArguments& in) {
  return {in.x.size(1), in.down().size(1), in.heads, in.kv_heads, in.head_dim};
}

std::vector<Tensor> amx_block_forward(const BlockArguments& in) {
  // What the op of attention would check of its own arguments.
  check_attention(at::empty({in.x.size(0), in.qkv().size(0)}, in.x.options()), in.cu_seqlens,
                  in.cos, in.sin, in.heads, in.kv_heads, in.head_dim, in.scale, in.window);
  return Pass(in).forward();
}

std::vector<Tensor> amx_block_backward(const BlockArguments& in, In grad, at::TensorList saved) {
  return Pass(in).backward(grad, saved);
}

}  // namespace hone::kernels
