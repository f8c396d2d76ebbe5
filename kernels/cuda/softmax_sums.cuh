#pragma once

// Sums over a row of logits for its softmax and entropy, taken while the row streams by.

#include <cmath>

#include "kernels/device/primitives.h"

namespace hone::kernels::cuda {

template <typename T>
constexpr T kLog2E = T(1.4426950408889634074);
template <typename T>
constexpr T kLn2 = T(0.6931471805599453094);

/// What x * scale is measured from: any number near the largest, the same one in every power of a
/// sum. A sum without anything finite has 0.
template <typename T>
HONE_DEVICE T softmax_base(T top, T scale) {
  return top == -INFINITY ? T(0) : top * scale;
}

/// e^(x / temperature) in units of 2^base; `scale` is log2(e) / temperature.
template <typename T>
HONE_DEVICE T softmax_weight(T x, T base, T scale) {
  return device::exp2_approximate(std::fma(x, scale, -base));
}

/// Of the logits x seen so far: 2^t with t = x * scale - base and base = softmax_base(top, scale);
/// in `raw` the same at temperature 1. Online softmax (Milakov & Gimelshein 2018) with the
/// entropy's sum carried along.
template <typename T>
struct SoftmaxSums {
  T top = -INFINITY;  // largest logit
  T sum = 0;          // of 2^t
  T weighted = 0;     // of 2^t * t
  T raw = 0;          // of the raw powers, where kRaw asks for them
};

/// Moves the sums to a larger top.
template <bool kRaw, typename T>
HONE_DEVICE void raise_top(SoftmaxSums<T>& s, T top, T scale) {
  const T shift = softmax_base(s.top, scale) - softmax_base(top, scale);
  const T shrink = device::exp2_approximate(shift);
  if (s.sum != T(0)) {  // else `shrink` may be anything
    s.weighted = shrink * (s.weighted + shift * s.sum);
    s.sum *= shrink;
    if (kRaw) s.raw *= softmax_weight(s.top, softmax_base(top, kLog2E<T>), kLog2E<T>);
  }
  s.top = top;
}

/// Adds N logits. A NaN or +inf among them makes the sums NaN; -inf weighs nothing.
template <bool kRaw, int N, typename T>
HONE_DEVICE void add_logits(SoftmaxSums<T>& s, const T (&x)[N], T scale) {
  T top = x[0];
  HONE_UNROLL
  for (int k = 1; k < N; ++k) top = std::fmax(top, x[k]);
  if (top > s.top) raise_top<kRaw>(s, top, scale);
  const T base = softmax_base(s.top, scale), raw_base = softmax_base(s.top, kLog2E<T>);
  HONE_UNROLL
  for (int k = 0; k < N; ++k) {
    const T t = std::fma(x[k], scale, -base), e = device::exp2_approximate(t);
    s.sum += e;
    s.weighted += e * std::fmax(t, T(-1000));  // 0 * -inf would be NaN
    if (kRaw) s.raw += softmax_weight(x[k], raw_base, kLog2E<T>);
  }
}

template <bool kRaw, typename T>
struct MergeSoftmax {
  T scale;

  HONE_DEVICE SoftmaxSums<T> operator()(SoftmaxSums<T> a, SoftmaxSums<T> b) const {
    if (b.sum == T(0)) return a;
    if (a.sum == T(0)) return b;
    if (a.top < b.top) {
      raise_top<kRaw>(a, b.top, scale);
    } else {
      raise_top<kRaw>(b, a.top, scale);
    }
    return {a.top, a.sum + b.sum, a.weighted + b.weighted, a.raw + b.raw};
  }
};

}  // namespace hone::kernels::cuda
