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
#include "kernels/cpu/vector_exp-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hone::kernels::HWY_NAMESPACE {
namespace {

template <typename T>
T row_max(const T* row, int64_t size) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = hn::Lanes(d);
  auto top0 = hn::Set(d, row[0]), top1 = top0, top2 = top0, top3 = top0;
  int64_t j = 0;
  for (; j + 4 * lanes <= size; j += 4 * lanes) {
    top0 = hn::Max(top0, hn::LoadU(d, row + j));
    top1 = hn::Max(top1, hn::LoadU(d, row + j + lanes));
    top2 = hn::Max(top2, hn::LoadU(d, row + j + 2 * lanes));
    top3 = hn::Max(top3, hn::LoadU(d, row + j + 3 * lanes));
  }
  for (; j + lanes <= size; j += lanes) top0 = hn::Max(top0, hn::LoadU(d, row + j));
  T top = hn::GetLane(hn::MaxOfLanes(d, hn::Max(hn::Max(top0, top1), hn::Max(top2, top3))));
  for (; j < size; ++j) top = row[j] > top ? row[j] : top;
  return top;
}

struct RowSums {
  double sum = 0;       // of e^t
  double weighted = 0;  // of e^t * t
};

/// t = (row - top) / temperature <= 0. kStore leaves e^t in the row. The order of the additions is
/// the same for every kStore and kEntropy, so that log-probabilities are.
template <bool kStore, bool kEntropy, typename T>
RowSums exp_row(T* row, int64_t size, T top, T inverse_temperature) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = hn::Lanes(d);
  // Vectors summed in T before they join the double: short enough for 1e-7 relative.
  constexpr int64_t kVectors = 32;
  const auto v_top = hn::Set(d, top), v_inverse = hn::Set(d, inverse_temperature);
  RowSums sums;
  const auto visit = [&](int64_t j, hn::Vec<decltype(d)>& sum, hn::Vec<decltype(d)>& weighted) {
    const auto t = hn::Mul(hn::Sub(hn::LoadU(d, row + j), v_top), v_inverse);
    const auto e = exp_below_88(d, t);
    sum = hn::Add(sum, e);
    // e is 0 where t may be -inf (a logit of -inf); 0 * -inf would be NaN.
    if (kEntropy) {
      weighted = hn::MulAdd(e, hn::Max(t, hn::Set(d, T(-1000))), weighted);
    }
    if (kStore) hn::StoreU(e, d, row + j);
  };
  int64_t j = 0;
  while (j + lanes <= size) {
    const int64_t end = j + kVectors * lanes < size ? j + kVectors * lanes : size;
    auto sum0 = hn::Zero(d), sum1 = sum0, weighted0 = sum0, weighted1 = sum0;
    for (; j + 2 * lanes <= end; j += 2 * lanes) {
      visit(j, sum0, weighted0);
      visit(j + lanes, sum1, weighted1);
    }
    if (j + lanes <= end) {
      visit(j, sum0, weighted0);
      j += lanes;
    }
    sums.sum += sum_in_double(d, hn::Add(sum0, sum1));
    if (kEntropy) sums.weighted += sum_in_double(d, hn::Add(weighted0, weighted1));
  }
  if (j < size) {
    const hn::CappedTag<T, 1> one;
    for (; j < size; ++j) {
      const T t = (row[j] - top) * inverse_temperature;
      const T e = hn::GetLane(exp_below_88(one, hn::Set(one, t)));
      sums.sum += e;
      if (kEntropy && e > T(0)) sums.weighted += static_cast<double>(e) * t;
      if (kStore) row[j] = e;
    }
  }
  return sums;
}

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
void scale_row(T* row, int64_t size, T scale) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = hn::Lanes(d);
  const auto v_scale = hn::Set(d, scale);
  int64_t j = 0;
  for (; j + lanes <= size; j += lanes) {
    hn::StoreU(hn::Mul(hn::LoadU(d, row + j), v_scale), d, row + j);
  }
  for (; j < size; ++j) row[j] *= scale;
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

template <bool kEntropy, typename T>
void backward_row(T* row, int64_t target, int64_t size, T logprob, T inverse, T g, T h, T entropy) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = hn::Lanes(d);
  const T chosen = row[target];
  const auto gradient = [&](auto tag, int64_t j) {
    const auto t = hn::MulAdd(hn::Sub(hn::LoadU(tag, row + j), hn::Set(tag, chosen)),
                              hn::Set(tag, inverse), hn::Set(tag, logprob));
    auto slope = hn::Set(tag, -g);
    if (kEntropy) {
      // p is 0 where t may be -inf (a logit of -inf); 0 * -inf would be NaN.
      const auto held = hn::Max(t, hn::Set(tag, T(-1000)));
      slope = hn::NegMulAdd(hn::Set(tag, h), hn::Add(held, hn::Set(tag, entropy)), slope);
    }
    hn::StoreU(hn::Mul(exp_below_88(tag, t), slope), tag, row + j);
  };
  int64_t j = 0;
  for (; j + lanes <= size; j += lanes) gradient(d, j);
  for (; j < size; ++j) gradient(hn::CappedTag<T, 1>(), j);
  row[target] += g;
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
    } else if (h == T(0)) {
      backward_row<false>(row, target, size, chunk.logprobs[i], inverse, g, h, T(0));
    } else {
      backward_row<true>(row, target, size, chunk.logprobs[i], inverse, g, h, chunk.entropy[i]);
    }
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
