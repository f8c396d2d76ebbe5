#include <cmath>
#include <limits>

#include "kernels/cpu/attention_item.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_forward.cpp"
#include "kernels/cpu/highway_targets.h"
// After the targets.
#include "hwy/foreach_target.h"
// After foreach_target.
#include "hwy/highway.h"
#include "kernels/cpu/attention_narrow-inl.h"
#include "kernels/cpu/attention_tiles-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hone::kernels::HWY_NAMESPACE {
namespace {

/// Online softmax of one row of scores (Milakov & Gimelshein 2018): turns the visible ones into
/// e^(s - max), the others up to the last vector into 0, and rescales what `out` holds already.
template <typename T>
HWY_INLINE void softmax_row(T* scores, int64_t first, int64_t last, T& row_max, T& row_sum, T* out,
                            int64_t dim) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = hn::Lanes(d);
  const auto hidden = hn::Set(d, -std::numeric_limits<T>::infinity());
  const auto begin = hn::Set(d, static_cast<T>(first)), end = hn::Set(d, static_cast<T>(last));
  auto top = hn::Set(d, row_max);
  for (int64_t j = 0; j < last; j += lanes) {
    const auto column = hn::Iota(d, static_cast<T>(j));
    const auto visible = hn::And(hn::Ge(column, begin), hn::Lt(column, end));
    const auto s = hn::IfThenElse(visible, hn::LoadU(d, scores + j), hidden);
    hn::StoreU(s, d, scores + j);
    top = hn::Max(top, s);
  }
  const auto new_max = hn::MaxOfLanes(d, top);
  auto sum = hn::Zero(d);
  for (int64_t j = 0; j < last; j += lanes) {
    const auto e = exp_below_88(d, hn::Sub(hn::LoadU(d, scores + j), new_max));
    hn::StoreU(e, d, scores + j);
    sum = hn::Add(sum, e);
  }
  const T old_max = row_max;
  row_max = hn::GetLane(new_max);
  const T total = hn::GetLane(hn::SumOfLanes(d, sum));
  if (row_sum > T(0) && old_max < row_max) {
    const auto shrink = exp_below_88(d, hn::Sub(hn::Set(d, old_max), new_max));
    row_sum *= hn::GetLane(shrink);
    for (int64_t i = 0; i < dim; i += lanes) {
      hn::StoreU(hn::Mul(hn::LoadU(d, out + i), shrink), d, out + i);
    }
  }
  row_sum += total;
}

template <typename T>
void forward_item(const AttentionTask<T>& task, int64_t sequence, int64_t kv_head,
                  AttentionScratch<T>& scratch) {
  const AttentionShape& s = task.shape;
  const int64_t begin = task.cu[sequence], length = task.cu[sequence + 1] - begin;
  if (length == 0) return;
#if HWY_TARGET != HWY_SCALAR
  if (s.head_dim == 8) return narrow_forward<8>(task, sequence, kv_head, scratch);
  if (s.head_dim == 16) return narrow_forward<16>(task, sequence, kv_head, scratch);
#endif
  const int64_t d = s.head_dim, dim = padded_dim<T>(d), tiles = round_up(length, kTile);
  const T* rows = task.qkv + begin * s.width;
  T* key_rows = scratch.room(scratch.key_rows, length * dim);
  T* keys = scratch.room(scratch.key, tiles * d);
  T* values = scratch.room(scratch.value, length * dim);
  T* query = scratch.room(scratch.query, kTile * dim);
  T* out = scratch.room(scratch.out, kTile * dim);
  T* scores = scratch.room(scratch.scores, kTile * kTile);
  T* row_max = scratch.room(scratch.row_max, kTile);
  T* row_sum = scratch.room(scratch.row_sum, kTile);
  load_rotated(task, rows + (s.heads + kv_head) * d, 0, length, T(1), key_rows, dim);
  transpose_tiles(key_rows, length, dim, d, keys);
  load_rows(rows + (s.heads + s.kv_heads + kv_head) * d, s.width, length, d, T(1), values, dim);

  for (int64_t head = kv_head * s.group; head < (kv_head + 1) * s.group; ++head) {
    for (int64_t q = 0; q < length; q += kTile) {
      const int64_t queries = std::min(kTile, length - q);
      load_rotated(task, rows + q * s.width + head * d, q, queries, static_cast<T>(s.scale), query,
                   dim);
      std::fill(row_max, row_max + queries, -std::numeric_limits<T>::infinity());
      std::fill(row_sum, row_sum + queries, T(0));
      std::fill(out, out + queries * dim, T(0));
      for (int64_t k = s.first_key(q) / kTile * kTile; k < q + queries; k += kTile) {
        const TilePair pair{q, queries, k, std::min(kTile, length - k), s.window};
        small_gemm<T>({query, dim, 1, keys + k * d, kTile, scores, kTile, false}, queries,
                      [&](int64_t row, int64_t n) { return pair.scores(row, n, d); });
        for (int64_t i = 0; i < queries; ++i) {
          const int64_t first = pair.first(i), last = pair.last(i);
          T* row = scores + i * kTile;
          if (first < last) {
            softmax_row(row, first, last, row_max[i], row_sum[i], out + i * dim, dim);
          }
          // The product with the values runs over the keys of a whole block of rows.
          std::fill(row + (first < last ? last : 0), row + pair.keys, T(0));
        }
        small_gemm<T>({scores, kTile, 1, values + k * dim, dim, out, dim, true}, queries,
                      [&](int64_t row, int64_t n) { return pair.over_keys(row, n, dim); });
      }
      for (int64_t i = 0; i < queries; ++i) {
        const int64_t token = begin + q + i;
        const T inverse = T(1) / row_sum[i];
        T* to = task.out + (token * s.heads + head) * d;
        for (int64_t c = 0; c < d; ++c) to[c] = out[i * dim + c] * inverse;
        task.lse[head * task.tokens + token] = row_max[i] + std::log(row_sum[i]);
      }
    }
  }
}

void forward_item_f32(const AttentionTask<float>& task, int64_t sequence, int64_t kv_head,
                      AttentionScratch<float>& scratch) {
  forward_item(task, sequence, kv_head, scratch);
}
void forward_item_f64(const AttentionTask<double>& task, int64_t sequence, int64_t kv_head,
                      AttentionScratch<double>& scratch) {
  forward_item(task, sequence, kv_head, scratch);
}

}  // namespace
}  // namespace hone::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

#include "kernels/cpu/float_dispatch.h"

namespace hone::kernels {

HONE_EXPORT(forward_item);

template <typename T>
void attention_forward_item(const AttentionTask<T>& task, int64_t sequence, int64_t kv_head,
                            AttentionScratch<T>& scratch) {
  HONE_DISPATCH(T, forward_item)(task, sequence, kv_head, scratch);
}

template void attention_forward_item(const AttentionTask<float>&, int64_t, int64_t,
                                     AttentionScratch<float>&);
template void attention_forward_item(const AttentionTask<double>&, int64_t, int64_t,
                                     AttentionScratch<double>&);

}  // namespace hone::kernels

#endif  // HWY_ONCE
