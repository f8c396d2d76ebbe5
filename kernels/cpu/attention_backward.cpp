#include <cmath>

#include "kernels/cpu/attention_item.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_backward.cpp"
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

/// scores -> p = e^(s - lse); d_scores (holding d p) -> d s = p * (d p - delta). Both become 0
/// where the row does not see the key, up to the end of the tile.
template <typename T>
HWY_INLINE void gradient_row(T* scores, T* d_scores, int64_t first, int64_t last, int64_t keys,
                             T lse, T delta) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = hn::Lanes(d);
  const auto begin = hn::Set(d, static_cast<T>(first)), end = hn::Set(d, static_cast<T>(last));
  const auto v_lse = hn::Set(d, lse), v_delta = hn::Set(d, delta);
  int64_t j = 0;
  for (; j < last; j += lanes) {
    const auto column = hn::Iota(d, static_cast<T>(j));
    const auto visible = hn::And(hn::Ge(column, begin), hn::Lt(column, end));
    // Hidden scores may be anything; e^0 of them is masked right after.
    const auto s = hn::IfThenElseZero(visible, hn::Sub(hn::LoadU(d, scores + j), v_lse));
    const auto p = hn::IfThenElseZero(visible, exp_below_88(d, s));
    const auto ds = hn::Mul(p, hn::Sub(hn::LoadU(d, d_scores + j), v_delta));
    hn::StoreU(p, d, scores + j);
    hn::StoreU(hn::IfThenElseZero(visible, ds), d, d_scores + j);
  }
  for (; j < keys; j += lanes) {
    hn::StoreU(hn::Zero(d), d, scores + j);
    hn::StoreU(hn::Zero(d), d, d_scores + j);
  }
}

template <typename T>
HWY_INLINE T dot(const T* a, const T* b, int64_t size) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = hn::Lanes(d);
  auto sum = hn::Zero(d);
  for (int64_t i = 0; i < size; i += lanes) {
    sum = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), sum);
  }
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

template <typename T>
void backward_item(const AttentionTask<T>& task, int64_t sequence, int64_t kv_head,
                   AttentionScratch<T>& scratch) {
  const AttentionShape& s = task.shape;
  const int64_t begin = task.cu[sequence], length = task.cu[sequence + 1] - begin;
  if (length == 0) return;
#if HWY_TARGET != HWY_SCALAR
  if (s.head_dim == 8) return narrow_backward<8>(task, sequence, kv_head, scratch);
  if (s.head_dim == 16) return narrow_backward<16>(task, sequence, kv_head, scratch);
#endif
  const int64_t d = s.head_dim, dim = padded_dim<T>(d), tiles = round_up(length, kTile);
  const int64_t key_column = (s.heads + kv_head) * d;
  const int64_t value_column = (s.heads + s.kv_heads + kv_head) * d;
  const T* rows = task.qkv + begin * s.width;
  T* d_rows = task.d_qkv + begin * s.width;
  T* key_rows = scratch.room(scratch.key_rows, length * dim);
  T* keys = scratch.room(scratch.key, tiles * d);
  T* values = scratch.room(scratch.value, tiles * d);
  T* d_key = scratch.room(scratch.d_key, length * dim);
  T* d_value = scratch.room(scratch.d_value, length * dim);
  T* query = scratch.room(scratch.query, kTile * dim);
  T* d_query = scratch.room(scratch.out, kTile * dim);
  T* d_out = scratch.room(scratch.d_out, 2 * kTile * dim);
  T* out = d_out + kTile * dim;
  T* scores = scratch.room(scratch.scores, kTile * kTile);
  T* d_scores = scratch.room(scratch.d_scores, kTile * kTile);
  // d_value lends its rows until the values are transposed.
  load_rows(rows + value_column, s.width, length, d, T(1), d_value, dim);
  transpose_tiles(d_value, length, dim, d, values);
  load_rotated(task, rows + key_column, 0, length, T(1), key_rows, dim);
  transpose_tiles(key_rows, length, dim, d, keys);
  std::fill(d_key, d_key + length * dim, T(0));
  std::fill(d_value, d_value + length * dim, T(0));

  for (int64_t head = kv_head * s.group; head < (kv_head + 1) * s.group; ++head) {
    for (int64_t q = 0; q < length; q += kTile) {
      const int64_t queries = std::min(kTile, length - q), out_width = s.heads * d;
      const int64_t out_row = (begin + q) * out_width + head * d;
      load_rotated(task, rows + q * s.width + head * d, q, queries, static_cast<T>(s.scale), query,
                   dim);
      load_rows(task.grad + out_row, out_width, queries, d, T(1), d_out, dim);
      load_rows(task.out + out_row, out_width, queries, d, T(1), out, dim);
      std::fill(d_query, d_query + queries * dim, T(0));
      for (int64_t k = s.first_key(q) / kTile * kTile; k < q + queries; k += kTile) {
        const TilePair pair{q, queries, k, std::min(kTile, length - k), s.window};
        const auto score_range = [&](int64_t row, int64_t n) { return pair.scores(row, n, d); };
        const auto over_keys = [&](int64_t row, int64_t n) { return pair.over_keys(row, n, dim); };
        const auto over_queries = [&](int64_t row, int64_t n) {
          return pair.over_queries(row, n, dim);
        };
        small_gemm<T>({query, dim, 1, keys + k * d, kTile, scores, kTile, false}, queries,
                      score_range);
        small_gemm<T>({d_out, dim, 1, values + k * d, kTile, d_scores, kTile, false}, queries,
                      score_range);
        for (int64_t i = 0; i < queries; ++i) {
          gradient_row(scores + i * kTile, d_scores + i * kTile, pair.first(i), pair.last(i),
                       pair.keys, task.lse[head * task.tokens + begin + q + i],
                       dot(d_out + i * dim, out + i * dim, dim));
        }
        small_gemm<T>({scores, 1, kTile, d_out, dim, d_value + k * dim, dim, true}, pair.keys,
                      over_queries);
        small_gemm<T>({d_scores, kTile, 1, key_rows + k * dim, dim, d_query, dim, true}, queries,
                      over_keys);
        small_gemm<T>({d_scores, 1, kTile, query, dim, d_key + k * dim, dim, true}, pair.keys,
                      over_queries);
      }
      store_gradient(task, d_query, q, queries, static_cast<T>(s.scale), true,
                     d_rows + q * s.width + head * d, dim);
    }
  }
  store_gradient(task, d_key, 0, length, T(1), true, d_rows + key_column, dim);
  store_gradient(task, d_value, 0, length, T(1), false, d_rows + value_column, dim);
}

void backward_item_f32(const AttentionTask<float>& task, int64_t sequence, int64_t kv_head,
                       AttentionScratch<float>& scratch) {
  backward_item(task, sequence, kv_head, scratch);
}
void backward_item_f64(const AttentionTask<double>& task, int64_t sequence, int64_t kv_head,
                       AttentionScratch<double>& scratch) {
  backward_item(task, sequence, kv_head, scratch);
}

}  // namespace
}  // namespace hone::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

#include "kernels/cpu/float_dispatch.h"

namespace hone::kernels {

HONE_EXPORT(backward_item);

template <typename T>
void attention_backward_item(const AttentionTask<T>& task, int64_t sequence, int64_t kv_head,
                             AttentionScratch<T>& scratch) {
  HONE_DISPATCH(T, backward_item)(task, sequence, kv_head, scratch);
}

template void attention_backward_item(const AttentionTask<float>&, int64_t, int64_t,
                                      AttentionScratch<float>&);
template void attention_backward_item(const AttentionTask<double>&, int64_t, int64_t,
                                      AttentionScratch<double>&);

}  // namespace hone::kernels

#endif  // HWY_ONCE
