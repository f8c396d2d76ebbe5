// Loading, turning and masking of attention tiles, compiled once for each instruction set
// (Highway's per-target include guard).

#if defined(HONE_KERNELS_CPU_ATTENTION_TILES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HONE_KERNELS_CPU_ATTENTION_TILES_INL_H_
#undef HONE_KERNELS_CPU_ATTENTION_TILES_INL_H_
#else
#define HONE_KERNELS_CPU_ATTENTION_TILES_INL_H_
#endif

#include <algorithm>

#include "kernels/cpu/attention_item.h"
#include "kernels/cpu/small_gemm-inl.h"
#include "kernels/cpu/vector_exp-inl.h"
#include "kernels/math/rope.h"

HWY_BEFORE_NAMESPACE();
namespace hone::kernels::HWY_NAMESPACE {

constexpr int64_t kTile = kAttentionTile;

inline int64_t round_up(int64_t size, int64_t multiple) {
  return (size + multiple - 1) / multiple * multiple;
}

/// head_dim padded to whole vectors: the row length of every tile of queries, keys and values.
template <typename T>
int64_t padded_dim(int64_t head_dim) {
  return round_up(head_dim, hn::Lanes(hn::ScalableTag<T>()));
}

/// Rows of a head from a matrix with row length `stride` to `to` [rows, dim], times `scale`,
/// padding zeroed.
template <typename T>
HWY_INLINE void load_rows(const T* from, int64_t stride, int64_t rows, int64_t head_dim, T scale,
                          T* to, int64_t dim) {
  for (int64_t t = 0; t < rows; ++t, from += stride, to += dim) {
    for (int64_t i = 0; i < head_dim; ++i) to[i] = from[i] * scale;
    for (int64_t i = head_dim; i < dim; ++i) to[i] = T(0);
  }
}

/// The same, rotated to the positions position .. position+rows-1.
template <typename T>
HWY_INLINE void load_rotated(const AttentionTask<T>& task, const T* from, int64_t position,
                             int64_t rows, T scale, T* to, int64_t dim) {
  const int64_t half = task.shape.head_dim / 2;
  const T* cos = task.cos + position * half;
  const T* sin = task.sin + position * half;
  for (int64_t t = 0; t < rows; ++t, from += task.shape.width, to += dim) {
    for (int64_t i = 0; i < half; ++i) {
      T first = from[i], second = from[i + half];
      math::rope_rotate(first, second, cos[i], sin[i]);
      to[i] = first * scale;
      to[i + half] = second * scale;
    }
    for (int64_t i = 2 * half; i < dim; ++i) to[i] = T(0);
    cos += half;
    sin += half;
  }
}

/// Gradient rows [rows, dim] times `scale`, rotated back if `rotated`, into d_qkv.
template <typename T>
HWY_INLINE void store_gradient(const AttentionTask<T>& task, const T* from, int64_t position,
                               int64_t rows, T scale, bool rotated, T* to, int64_t dim) {
  const int64_t half = task.shape.head_dim / 2;
  const T* cos = task.cos + position * half;
  const T* sin = task.sin + position * half;
  for (int64_t t = 0; t < rows; ++t, from += dim, to += task.shape.width) {
    for (int64_t i = 0; i < half; ++i) {
      T first = from[i] * scale, second = from[i + half] * scale;
      if (rotated) math::rope_rotate_back(first, second, cos[i], sin[i]);
      to[i] = first;
      to[i + half] = second;
    }
    cos += half;
    sin += half;
  }
}

/// Rows [count, dim] to tiles [ceil(count/kTile)][head_dim][kTile], missing rows zero.
template <typename T>
HWY_INLINE void transpose_tiles(const T* rows, int64_t count, int64_t dim, int64_t head_dim,
                                T* tiles) {
  for (int64_t first = 0; first < count; first += kTile, tiles += head_dim * kTile) {
    const int64_t here = std::min(kTile, count - first);
    const T* from = rows + first * dim;
    for (int64_t i = 0; i < head_dim; ++i) {
      T* to = tiles + i * kTile;
      for (int64_t t = 0; t < here; ++t) to[t] = from[t * dim + i];
      for (int64_t t = here; t < kTile; ++t) to[t] = T(0);
    }
  }
}

/// Where a tile of queries meets a tile of keys.
struct TilePair {
  int64_t query, queries;  // first row, rows
  int64_t key, keys;
  int64_t window;

  /// Keys of the tile that row `i` of the queries sees: [first, last).
  int64_t first(int64_t i) const {
    return window > 0 ? std::clamp<int64_t>(query + i - window + 1 - key, 0, keys) : 0;
  }
  int64_t last(int64_t i) const { return std::clamp<int64_t>(query + i + 1 - key, 0, keys); }

  /// Score columns that a block of query rows needs (products with one row a query).
  GemmRange scores(int64_t row, int64_t rows, int64_t head_dim) const {
    return {last(row + rows - 1), 0, head_dim};
  }
  /// Keys that a block of query rows sums over.
  GemmRange over_keys(int64_t row, int64_t rows, int64_t dim) const {
    return {dim, first(row), last(row + rows - 1)};
  }
  /// Queries that a block of key rows sums over.
  GemmRange over_queries(int64_t row, int64_t rows, int64_t dim) const {
    const int64_t begin = std::clamp<int64_t>(key + row - query, 0, queries);
    const int64_t end = window > 0
                            ? std::clamp<int64_t>(key + row + rows - 1 + window - query, 0, queries)
                            : queries;
    return {dim, begin, std::max(begin, end)};
  }
};

}  // namespace hone::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
