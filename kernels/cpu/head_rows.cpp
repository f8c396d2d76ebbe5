#include "kernels/cpu/head_rows.h"

#include <algorithm>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/head_rows.cpp"
#include "kernels/cpu/highway_targets.h"
// After the targets.
#include "hwy/foreach_target.h"
// After foreach_target.
#include "hwy/highway.h"
#include "kernels/cpu/head_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hone::kernels::HWY_NAMESPACE {
namespace {

template <bool kStore, typename T>
RowSums forward_row(const HeadRows<T>& chunk, int64_t i, T* row) {
  const T top = row_max(row, chunk.vocabulary);
  const T inverse = static_cast<T>(1.0 / chunk.temperature);
  const double chosen = static_cast<double>((row[chunk.targets[i]] - top) * inverse);
  const RowSums sums = chunk.entropy ? exp_row<kStore, true>(row, chunk.vocabulary, top, inverse)
                                     : exp_row<kStore, false>(row, chunk.vocabulary, top, inverse);
  const double log_sum = std::log(sums.sum);
  chunk.logprobs[i] = static_cast<T>(chosen - log_sum);
  if (chunk.entropy) chunk.entropy[i] = static_cast<T>(log_sum - sums.weighted / sums.sum);
  return sums;
}

template <typename T>
void forward_range(const HeadRows<T>& chunk, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    forward_row<false>(chunk, i, chunk.logits + i * chunk.vocabulary);
  }
}

template <typename T>
void fused_range(const HeadRows<T>& chunk, c10::function_ref<T(int64_t, T)> gradient, int64_t begin,
                 int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    T* row = chunk.logits + i * chunk.vocabulary;
    const RowSums sums = forward_row<true>(chunk, i, row);
    const double g = gradient(i, chunk.logprobs[i]) / chunk.temperature;
    scale_row(row, chunk.vocabulary, static_cast<T>(-g / sums.sum));
    row[chunk.targets[i]] += static_cast<T>(g);
  }
}

template <typename T>
void backward_range(const HeadRows<T>& chunk, const HeadRowGrads<T>& grads, int64_t begin,
                    int64_t end) {
  const T inverse = static_cast<T>(1.0 / chunk.temperature);
  for (int64_t i = begin; i < end; ++i) {
    T* row = chunk.logits + i * chunk.vocabulary;
    const T g = grads.logprob ? grads.logprob[i] * inverse : T(0);
    const T h = grads.entropy ? grads.entropy[i] * inverse : T(0);
    const int64_t target = chunk.targets[i], size = chunk.vocabulary;
    if (g == T(0) && h == T(0)) {
      // The row of a masked token may hold p = inf or NaN; 0 times that must stay 0.
      std::fill(row, row + size, T(0));
      continue;
    }
    const T chosen = row[target];
    if (h == T(0)) {
      backward_row<false>(row, size, chosen, chunk.logprobs[i], inverse, g, h, T(0));
    } else {
      backward_row<true>(row, size, chosen, chunk.logprobs[i], inverse, g, h, chunk.entropy[i]);
    }
    row[target] += g;
  }
}

// HWY_EXPORT wants plain functions.
void forward_f32(const HeadRows<float>& c, int64_t b, int64_t e) { forward_range(c, b, e); }
void forward_f64(const HeadRows<double>& c, int64_t b, int64_t e) { forward_range(c, b, e); }
void fused_f32(const HeadRows<float>& c, c10::function_ref<float(int64_t, float)> g, int64_t b,
               int64_t e) {
  fused_range(c, g, b, e);
}
void fused_f64(const HeadRows<double>& c, c10::function_ref<double(int64_t, double)> g, int64_t b,
               int64_t e) {
  fused_range(c, g, b, e);
}
void backward_f32(const HeadRows<float>& c, const HeadRowGrads<float>& g, int64_t b, int64_t e) {
  backward_range(c, g, b, e);
}
void backward_f64(const HeadRows<double>& c, const HeadRowGrads<double>& g, int64_t b, int64_t e) {
  backward_range(c, g, b, e);
}

}  // namespace
}  // namespace hone::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

#include <ATen/Parallel.h>

#include <algorithm>

#include "kernels/cpu/float_dispatch.h"

namespace hone::kernels {

HONE_EXPORT(forward);
HONE_EXPORT(fused);
HONE_EXPORT(backward);

namespace {

template <typename T, typename Range>
void parallel_rows(const HeadRows<T>& chunk, const Range& range) {
  const int64_t grain = std::max<int64_t>(1, 16384 / std::max<int64_t>(chunk.vocabulary, 1));
  at::parallel_for(0, chunk.rows, grain, range);
}

}  // namespace

template <typename T>
void head_rows_forward(const HeadRows<T>& chunk) {
  parallel_rows(chunk, [&](int64_t b, int64_t e) { HONE_DISPATCH(T, forward)(chunk, b, e); });
}

template <typename T>
void head_rows_fused(const HeadRows<T>& chunk, c10::function_ref<T(int64_t, T)> gradient) {
  parallel_rows(chunk, [&](int64_t b, int64_t e) {
    HONE_DISPATCH(T, fused)(chunk, gradient, b, e);
  });
}

template <typename T>
void head_rows_backward(const HeadRows<T>& chunk, const HeadRowGrads<T>& grads) {
  parallel_rows(chunk, [&](int64_t b, int64_t e) {
    HONE_DISPATCH(T, backward)(chunk, grads, b, e);
  });
}

template void head_rows_forward(const HeadRows<float>&);
template void head_rows_forward(const HeadRows<double>&);
template void head_rows_fused(const HeadRows<float>&, c10::function_ref<float(int64_t, float)>);
template void head_rows_fused(const HeadRows<double>&, c10::function_ref<double(int64_t, double)>);
template void head_rows_backward(const HeadRows<float>&, const HeadRowGrads<float>&);
template void head_rows_backward(const HeadRows<double>&, const HeadRowGrads<double>&);

}  // namespace hone::kernels

#endif  // HWY_ONCE
