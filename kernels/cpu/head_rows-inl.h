// What the passes over rows of raw logits are made of, compiled once for each instruction set
// (Highway's per-target include guard): every op computes the log-probability with these, so that
// all of them give the same bits.

#if defined(HONE_KERNELS_CPU_HEAD_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HONE_KERNELS_CPU_HEAD_ROWS_INL_H_
#undef HONE_KERNELS_CPU_HEAD_ROWS_INL_H_
#else
#define HONE_KERNELS_CPU_HEAD_ROWS_INL_H_
#endif

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

/// d loss / d logits in place, but for the target's own `+ g`: with t = log p of a token whose
/// logit `chosen` has log-probability `logprob`.
template <bool kEntropy, typename T>
void backward_row(T* row, int64_t size, T chosen, T logprob, T inverse, T g, T h, T entropy) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = hn::Lanes(d);
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
}

}  // namespace
}  // namespace hone::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
