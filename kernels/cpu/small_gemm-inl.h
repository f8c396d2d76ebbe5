// Small matrix products on tiles that stay in the first-level cache, for attention. Compiled once
// for each instruction set (Highway's per-target include guard).

#if defined(HONE_KERNELS_CPU_SMALL_GEMM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HONE_KERNELS_CPU_SMALL_GEMM_INL_H_
#undef HONE_KERNELS_CPU_SMALL_GEMM_INL_H_
#else
#define HONE_KERNELS_CPU_SMALL_GEMM_INL_H_
#endif

#include <cstdint>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace hone::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Accumulators are kRows x kVectors registers: 16 of AVX-512's 32, 8 of AVX2's 16.
#if HWY_TARGET == HWY_AVX3
constexpr int kWideVectors = 4;
#else
constexpr int kWideVectors = 2;
#endif
constexpr int64_t kGemmRows = 8;  // rows that share one range of columns and of the inner index

/// Which part of a product one block of kGemmRows rows needs; causal masks make it less than all.
struct GemmRange {
  int64_t columns;  // [0, columns) rounded up to whole vectors
  int64_t inner_begin, inner_end;
};

/// C[row, column] (+)= sum_k A(row, k) * B[k, column]. A is read element by element at any strides
/// (so A^T costs the same); rows of B and C are contiguous and padded to whole vectors.
template <typename T>
struct SmallGemm {
  const T* a;
  int64_t a_row, a_inner;
  const T* b;
  int64_t b_stride;
  T* c;
  int64_t c_stride;
  bool accumulate;
};

template <int kRows, int kVectors, typename T>
HWY_INLINE void gemm_block(const SmallGemm<T>& g, int64_t row, int64_t column, int64_t begin,
                           int64_t end) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = hn::Lanes(d);
  hn::Vec<decltype(d)> sum[kRows][kVectors];
  T* c = g.c + row * g.c_stride + column;
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      sum[r][v] = g.accumulate ? hn::LoadU(d, c + r * g.c_stride + v * lanes) : hn::Zero(d);
    }
  }
  const T* a = g.a + row * g.a_row + begin * g.a_inner;
  const T* b = g.b + begin * g.b_stride + column;
  for (int64_t k = begin; k < end; ++k, a += g.a_inner, b += g.b_stride) {
    hn::Vec<decltype(d)> bv[kVectors];
    for (int v = 0; v < kVectors; ++v) bv[v] = hn::LoadU(d, b + v * lanes);
    for (int r = 0; r < kRows; ++r) {
      const auto av = hn::Set(d, a[r * g.a_row]);
      for (int v = 0; v < kVectors; ++v) sum[r][v] = hn::MulAdd(av, bv[v], sum[r][v]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) hn::StoreU(sum[r][v], d, c + r * g.c_stride + v * lanes);
  }
}

/// All columns of `kRows` rows.
template <int kRows, typename T>
HWY_INLINE void gemm_rows(const SmallGemm<T>& g, int64_t row, const GemmRange& range) {
  const int64_t lanes = hn::Lanes(hn::ScalableTag<T>());
  int64_t column = 0;
  for (; column + (kWideVectors - 1) * lanes < range.columns; column += kWideVectors * lanes) {
    if constexpr (kRows == kGemmRows) {
      gemm_block<kRows / 2, kWideVectors>(g, row, column, range.inner_begin, range.inner_end);
      gemm_block<kRows / 2, kWideVectors>(g, row + kRows / 2, column, range.inner_begin,
                                          range.inner_end);
    } else {
      gemm_block<kRows, kWideVectors>(g, row, column, range.inner_begin, range.inner_end);
    }
  }
  if constexpr (kWideVectors > 2) {
    if (column + lanes < range.columns) {
      gemm_block<kRows, 2>(g, row, column, range.inner_begin, range.inner_end);
      column += 2 * lanes;
    }
  }
  for (; column < range.columns; column += lanes) {
    gemm_block<kRows, 1>(g, row, column, range.inner_begin, range.inner_end);
  }
}

/// `range(row, rows)` is asked once for each block of at most kGemmRows rows.
template <typename T, typename Range>
HWY_INLINE void small_gemm(const SmallGemm<T>& g, int64_t rows, const Range& range) {
  int64_t row = 0;
  for (; row + kGemmRows <= rows; row += kGemmRows) {
    gemm_rows<kGemmRows>(g, row, range(row, kGemmRows));
  }
  if (row == rows) return;
  const GemmRange last = range(row, rows - row);
  if (row + 4 <= rows) {
    gemm_rows<4>(g, row, last);
    row += 4;
  }
  if (row + 2 <= rows) {
    gemm_rows<2>(g, row, last);
    row += 2;
  }
  if (row < rows) gemm_rows<1>(g, row, last);
}

}  // namespace hone::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
