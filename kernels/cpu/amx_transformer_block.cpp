#include "kernels/cpu/amx_transformer_block.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "kernels/cpu/amx.h"
#include "kernels/cpu/amx_attention.h"
#include "kernels/cpu/amx_block.h"
#include "kernels/cpu/block_chunks.h"
#include "kernels/cpu/parallel_items.h"
#include "kernels/threads.h"

namespace hone::kernels {
namespace {

using at::Tensor;
using In = const Tensor&;

const uint16_t* bits(In x) {
  return reinterpret_cast<const uint16_t*>(x.const_data_ptr<c10::BFloat16>());
}
uint16_t* mutable_bits(In x) {
  return reinterpret_cast<uint16_t*>(x.mutable_data_ptr<c10::BFloat16>());
}
float* row(In x, int64_t r) { return x.mutable_data_ptr<float>() + r * x.size(1); }
const float* const_row(In x, int64_t r) { return x.const_data_ptr<float>() + r * x.size(1); }

/// Which thread computes what. Sums over rows are taken by shares, in order: bits depend on the
/// number of threads only.
class Shares {
 public:
  Shares(const int64_t* cu, int64_t sequences, int64_t rows)
      : threads_(at::in_parallel_region() ? 1 : at::get_num_threads()),
        chunks_(static_cast<size_t>(threads_)) {
    // Some for each thread, so that ragged ones even out.
    const int64_t chunk_rows = std::clamp<int64_t>(rows / (4 * threads_), 64, 512);
    int64_t most = 0;
    std::vector<int64_t> held(chunks_.size());
    for (int64_t s = 0; s < sequences;) {
      BlockChunk chunk{.row = cu[s]};
      for (; s < sequences && chunk.rows < chunk_rows; ++s) chunk.add(cu[s + 1] - cu[s]);
      if (chunk.rows == 0) continue;
      const auto share = static_cast<size_t>((2 * chunk.row + chunk.rows) * threads_ / (2 * rows));
      held[share] += chunk.rows;
      most = std::max(most, held[share]);
      chunks_[share].push_back(std::move(chunk));
    }
    // A few long sequences: all threads pass by pass instead.
    together_ = threads_ > 1 && 2 * most * threads_ > 3 * rows;
    if (together_) chunks_ = {{{0, rows, {cu, cu + sequences + 1}}}};
  }

  int64_t threads() const { return threads_; }
  /// Of the largest chunk.
  int64_t most_rows() const {
    int64_t most = 0;
    for (const auto& share : chunks_) {
      for (const BlockChunk& chunk : share) most = std::max(most, chunk.rows);
    }
    return most;
  }

  /// visit(share, chunk), with room for the rows of one chunk made by `make_room()` in each thread.
  template <typename MakeRoom, typename Visit>
  void for_chunks(const MakeRoom& make_room, const Visit& visit) const {
    const auto shares = static_cast<int64_t>(chunks_.size());
    const auto run = [&](int64_t first, int64_t last) {
      const FlushedDenormals flushed;
      for (int64_t share = first; share < last; ++share) {
        const auto& chunks = chunks_[static_cast<size_t>(share)];
        if (chunks.empty()) continue;
        const auto room = make_room();
        for (const BlockChunk& chunk : chunks) visit(static_cast<size_t>(share), chunk, room);
      }
    };
    if (together_) return run(0, shares);
    at::parallel_for(0, shares, 1, run);
  }
  /// visit(share, first row, rows) of so many rows of a chunk.
  template <typename Visit>
  void for_rows(size_t share, int64_t rows, const Visit& visit) const {
    if (!together_) {
      if (rows > 0) visit(share, int64_t{0}, rows);
      return;
    }
    constexpr int64_t kTaskRows = 64;  // a multiple of the 32 that pass through a block together
    const int64_t tasks = (rows + kTaskRows - 1) / kTaskRows;
    at::parallel_for(0, threads_, 1, [&](int64_t first, int64_t last) {
      const FlushedDenormals flushed;
      for (int64_t t = first; t < last; ++t) {
        const int64_t begin = tasks * t / threads_ * kTaskRows;
        const int64_t end = std::min(rows, tasks * (t + 1) / threads_ * kTaskRows);
        if (begin < end) visit(static_cast<size_t>(t), begin, end - begin);
      }
    });
  }
  /// item(task, sequence, kv_head) of all.
  void for_heads(const BlockChunk& chunk, const AmxAttentionTask& task,
                 void (*item)(const AmxAttentionTask&, int64_t, int64_t)) const {
    const int64_t items = chunk.sequences() * task.kv_heads;
    const auto visit = [&](int64_t i) { item(task, i / task.kv_heads, i % task.kv_heads); };
    if (!together_) {
      for (int64_t i = 0; i < items; ++i) visit(i);
      return;
    }
    parallel_items(items, [&] {
      return [&](int64_t i) {
        const FlushedDenormals flushed;
        visit(i);
      };
    });
  }

 private:
  int64_t threads_;
  std::vector<std::vector<BlockChunk>> chunks_;
  bool together_ = false;
};

/// Rows that one pass leaves for another: of all tokens where backward reads them, else of a chunk.
struct Held {
  Tensor qkv, mixed, lse, middle;  // middle: of the result's rows

  Held(const BlockShape& shape, int64_t rows, int64_t result_rows, const at::TensorOptions& options)
      : qkv(at::empty({rows, shape.qkv()}, options.dtype(at::kBFloat16))),
        mixed(at::empty({rows, shape.mixed()}, options.dtype(at::kBFloat16))),
        lse(at::empty({shape.heads, rows}, options)),
        middle(at::empty({result_rows, shape.width}, options)) {}
};

/// The op's arguments as the passes take them.
class Pass {
 public:
  explicit Pass(const BlockArguments& in)
      : x_(in.x.contiguous()),
        cu_(in.cu_seqlens.contiguous()),
        cos_(in.cos.contiguous()),
        sin_(in.sin.contiguous()),
        rows_(in.rows),
        window_(in.window),
        scale_(static_cast<float>(in.attention().scale)),
        result_rows_(in.result_rows()),
        shares_(cu_.const_data_ptr<int64_t>(), cu_.size(0) - 1, x_.size(0)) {
    for (const Tensor& weight : in.weights) kept_.push_back(weight.contiguous());
    weights_.shape = block_shape(in);
    weights_.attention_norm = weight(0);
    weights_.mlp_norm = weight(3);
    weights_.qkv_bias = in.has_bias() ? weight(6) : nullptr;
    weights_.eps = static_cast<float>(in.eps);
    const auto* cu = cu_.const_data_ptr<int64_t>();
    positions_.reserve(static_cast<size_t>(x_.size(0)));
    for (int64_t s = 0; s + 1 < cu_.size(0); ++s) {
      for (int64_t t = 0; t < cu[s + 1] - cu[s]; ++t) positions_.push_back(t);
    }
  }

  /// With `keep` also what backward reads.
  std::vector<Tensor> forward(bool keep) {
    weights_.pack_forward(matrices());
    const BlockShape& shape = weights_.shape;
    const Tensor out = at::empty({result_rows_, shape.width}, x_.options());
    const Held kept(shape, keep ? x_.size(0) : 0, keep ? result_rows_ : 0, x_.options());
    const int64_t most = shares_.most_rows(), few = keep ? 0 : most;
    const auto make_room = [&] {
      return std::pair(Held(shape, few, few, x_.options()), make_selection(most));
    };
    shares_.for_chunks(make_room, [&](size_t share, const BlockChunk& chunk, const auto& room) {
      const Held& held = keep ? kept : room.first;
      const Selection& selection = room.second;
      const ResultRows result(chunk, rows_);
      const int64_t first = keep ? chunk.row : 0, first_middle = keep ? result.first : 0;
      uint16_t *qkv = mutable_bits(held.qkv) + first * shape.qkv(),
               *mixed = mutable_bits(held.mixed) + first * shape.mixed();
      shares_.for_rows(share, chunk.rows, [&](size_t, int64_t r, int64_t count) {
        block_input_rows(weights_, rope(chunk.row + r, scale_ * kScoreUnit, 1.0F),
                         const_row(x_, chunk.row + r), qkv + r * shape.qkv(), count);
      });
      shares_.for_heads(chunk, attention(chunk, held, first), amx_attention_forward_item);
      const float* x_rows = result.gathered(0, result.count, const_row(x_, chunk.row), shape.width,
                                            row(selection.x, 0));
      const uint16_t* mixed_rows = result.gathered<uint16_t>(0, result.count, mixed, shape.mixed(),
                                                             mutable_bits(selection.mixed));
      shares_.for_rows(share, result.count, [&](size_t, int64_t r, int64_t count) {
        block_output_rows(weights_, x_rows + r * shape.width, mixed_rows + r * shape.mixed(),
                          row(held.middle, first_middle + r), row(out, result.first + r), count);
      });
    });
    if (!keep) return {out};
    return {out, kept.qkv, kept.mixed, kept.lse, kept.middle};
  }

  std::vector<Tensor> backward(In grad, at::TensorList saved) {
    weights_.pack_backward(matrices());
    const BlockShape& shape = weights_.shape;
    Held held(shape, 0, 0, x_.options());
    held.qkv = saved[0];
    held.mixed = saved[1];
    held.lse = saved[2];
    held.middle = saved[3];
    const Tensor d_out = grad.contiguous(), d_x = at::empty_like(x_);
    std::vector<BlockSums> sums;
    for (int64_t share = 0; share < shares_.threads(); ++share) sums.emplace_back(shape);
    const int64_t most = shares_.most_rows();
    struct Room {
      Tensor d_middle, d_qkv, d_mixed;
      Selection mixed, d;  // d: of the same two gradients
    };
    const auto make_room = [&] {
      return Room{at::empty({most, shape.width}, x_.options()),
                  at::empty({most, shape.qkv()}, x_.options()),
                  at::empty({most, shape.mixed()}, x_.options().dtype(at::kBFloat16)),
                  make_selection(most), make_selection(most)};
    };
    shares_.for_chunks(make_room, [&](size_t share, const BlockChunk& chunk, const Room& room) {
      const ResultRows result(chunk, rows_);
      const uint16_t* mixed =
          result.gathered<uint16_t>(0, result.count, bits(held.mixed) + chunk.row * shape.mixed(),
                                    shape.mixed(), mutable_bits(room.mixed.mixed));
      float* d_middle = row(result.all ? room.d_middle : room.d.x, 0);
      uint16_t *d_mixed_rows = mutable_bits(room.d_mixed),
               *d_mixed = result.all ? d_mixed_rows : mutable_bits(room.d.mixed);
      shares_.for_rows(share, result.count, [&](size_t t, int64_t r, int64_t count) {
        const int64_t at = result.first + r;
        block_output_backward_rows(weights_, const_row(d_out, at), const_row(held.middle, at),
                                   mixed + r * shape.mixed(), d_middle + r * shape.width,
                                   d_mixed + r * shape.mixed(), sums[t], count);
      });
      if (!result.all) {
        std::fill_n(row(room.d_middle, 0), chunk.rows * shape.width, 0.0F);
        std::fill_n(d_mixed_rows, chunk.rows * shape.mixed(), uint16_t{0});
        result.spread(0, result.count, d_middle, shape.width, row(room.d_middle, 0));
        result.spread(0, result.count, d_mixed, shape.mixed(), d_mixed_rows);
      }
      AmxAttentionTask task = attention(chunk, held, chunk.row);
      task.grad = d_mixed_rows;
      task.d_qkv = row(room.d_qkv, 0);
      shares_.for_heads(chunk, task, amx_attention_backward_item);
      shares_.for_rows(share, chunk.rows, [&](size_t t, int64_t r, int64_t count) {
        const int64_t at = chunk.row + r;
        block_input_backward_rows(weights_, rope(at, scale_, 1.0F / kScoreUnit),
                                  const_row(room.d_qkv, r), const_row(x_, at),
                                  const_row(room.d_middle, r), row(d_x, at), sums[t], count);
      });
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
  /// Room for the result's rows of a chunk, where these are not all.
  struct Selection {
    Tensor x, mixed;
  };

  Selection make_selection(int64_t most) const {
    const int64_t rows = rows_.defined() ? most : 0;
    return {at::empty({rows, weights_.shape.width}, x_.options()),
            at::empty({rows, weights_.shape.mixed()}, x_.options().dtype(at::kBFloat16))};
  }
  const float* weight(size_t i) const { return kept_[i].const_data_ptr<float>(); }
  BlockMatrices matrices() const { return {weight(1), weight(2), weight(4), weight(5)}; }
  BlockRope rope(int64_t first, float query_scale, float key_scale) const {
    return {cos_.const_data_ptr<float>(), sin_.const_data_ptr<float>(), positions_.data() + first,
            query_scale, key_scale};
  }
  /// Of a chunk whose rows begin at `first` of what is held.
  AmxAttentionTask attention(const BlockChunk& chunk, const Held& held, int64_t first) const {
    const BlockShape& shape = weights_.shape;
    return {shape.heads,
            shape.kv_heads,
            shape.head_dim,
            window_,
            chunk.cu.data(),
            bits(held.qkv) + first * shape.qkv(),
            mutable_bits(held.mixed) + first * shape.mixed(),
            held.lse.mutable_data_ptr<float>() + first,
            nullptr,
            nullptr,
            held.lse.size(1)};
  }

  Tensor x_, cu_, cos_, sin_, rows_;
  int64_t window_;
  float scale_;
  int64_t result_rows_;
  Shares shares_;
  std::vector<Tensor> kept_;
  std::vector<int64_t> positions_;
  BlockWeights weights_;
};

}  // namespace

bool amx_suits(const BlockShape& shape) { return shape.suits_tiles() && amx_usable(); }

BlockShape block_shape(const BlockArguments& in) {
  return {in.x.size(1), in.down().size(1), in.heads, in.kv_heads, in.head_dim};
}

std::vector<Tensor> amx_block_forward(const BlockArguments& in, bool keep) {
  return Pass(in).forward(keep);
}

std::vector<Tensor> amx_block_backward(const BlockArguments& in, In grad, at::TensorList saved) {
  return Pass(in).backward(grad, saved);
}

}  // namespace hone::kernels
