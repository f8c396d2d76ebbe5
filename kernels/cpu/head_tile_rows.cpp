#include "kernels/cpu/head_tile_rows.h"

#include <algorithm>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/head_tile_rows.cpp"
#include "kernels/cpu/highway_targets.h"
// After the targets.
#include "hwy/foreach_target.h"
// After foreach_target.
#include "hwy/highway.h"
#include "kernels/cpu/head_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hone::kernels::HWY_NAMESPACE {
namespace {

template <typename T>
void tile_sums(const HeadTile<T>& tile, HeadTileKeeps keeps, HeadTileSums<T>* sums) {
  constexpr T kNothing = -std::numeric_limits<T>::infinity();
  const bool store = keeps == HeadTileKeeps::kExponentials;
  for (int64_t i = 0; i < tile.rows; ++i) {
    T* row = tile.logits + i * tile.columns;
    const T top = row_max(row, tile.columns);
    if (top == kNothing) {  // -inf minus -inf would be NaN, but the other tiles may have something
      sums[i] = {top, 0, 0};
      if (store) std::fill(row, row + tile.columns, T(0));
      continue;
    }
    const RowSums s = store
                          ? exp_row<true, true>(row, tile.columns, top, tile.inverse_temperature)
                          : exp_row<false, true>(row, tile.columns, top, tile.inverse_temperature);
    sums[i] = {top, s.sum, s.weighted};
  }
}

template <typename T>
void tile_gradient(const HeadTile<T>& tile, HeadTileKeeps keeps, const int64_t* targets,
                   const HeadRowGradient<T>* rows, const T* scales) {
  for (int64_t i = 0; i < tile.rows; ++i) {
    T* row = tile.logits + i * tile.columns;
    const HeadRowGradient<T>& r = rows[i];
    if (r.g == T(0) && r.h == T(0)) {
      // The row of a masked token may hold inf or NaN; 0 times that must stay 0.
      std::fill(row, row + tile.columns, T(0));
      continue;
    }
    if (keeps == HeadTileKeeps::kExponentials) {
      scale_row(row, tile.columns, scales[i]);
    } else if (r.h == T(0)) {
      backward_row<false>(row, tile.columns, r.chosen, r.logprob, tile.inverse_temperature, r.g,
                          r.h, T(0));
    } else {
      backward_row<true>(row, tile.columns, r.chosen, r.logprob, tile.inverse_temperature, r.g, r.h,
                         r.entropy);
    }
    if (targets[i] >= 0 && targets[i] < tile.columns) row[targets[i]] += r.g;
  }
}

// HWY_EXPORT wants plain functions.
void tile_sums_f32(const HeadTile<float>& t, HeadTileKeeps k, HeadTileSums<float>* s) {
  tile_sums(t, k, s);
}
void tile_sums_f64(const HeadTile<double>& t, HeadTileKeeps k, HeadTileSums<double>* s) {
  tile_sums(t, k, s);
}
void tile_gradient_f32(const HeadTile<float>& t, HeadTileKeeps k, const int64_t* targets,
                       const HeadRowGradient<float>* r, const float* s) {
  tile_gradient(t, k, targets, r, s);
}
void tile_gradient_f64(const HeadTile<double>& t, HeadTileKeeps k, const int64_t* targets,
                       const HeadRowGradient<double>* r, const double* s) {
  tile_gradient(t, k, targets, r, s);
}

}  // namespace
}  // namespace hone::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

#include "kernels/cpu/float_dispatch.h"

namespace hone::kernels {

HONE_EXPORT(tile_sums);
HONE_EXPORT(tile_gradient);

template <typename T>
void head_tile_sums(const HeadTile<T>& tile, HeadTileKeeps keeps, HeadTileSums<T>* sums) {
  HONE_DISPATCH(T, tile_sums)(tile, keeps, sums);
}

template <typename T>
void head_tile_gradient(const HeadTile<T>& tile, HeadTileKeeps keeps, const int64_t* targets,
                        const HeadRowGradient<T>* rows, const T* scales) {
  HONE_DISPATCH(T, tile_gradient)(tile, keeps, targets, rows, scales);
}

#define HONE_INSTANTIATE(T)                                                           \
  template void head_tile_sums(const HeadTile<T>&, HeadTileKeeps, HeadTileSums<T>*);  \
  template void head_tile_gradient(const HeadTile<T>&, HeadTileKeeps, const int64_t*, \
                                   const HeadRowGradient<T>*, const T*)
HONE_INSTANTIATE(float);
HONE_INSTANTIATE(double);
#undef HONE_INSTANTIATE

}  // namespace hone::kernels

#endif  // HWY_ONCE
