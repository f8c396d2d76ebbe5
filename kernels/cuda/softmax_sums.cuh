#pragma once

// Sums over a row of logits for its softmax and entropy, taken while the row streams by.

#include <cmath>

#include "kernels/device/primitives.h"

namespace hone::kernels::cuda {

template <typename T>
constexpr T kLog2E = T(1.4426950408889634074);
template <typename T>
constexpr T kLn2 = T(0.6931471805599453094);

/// Of the logits x seen so far: e^t with t = (x - top) / temperature, and in `raw` e^(x - top).
/// Online softmax (Milakov & Gimelshein 2018) with the entropy's sum carried along. Powers are of
/// 2: `scale` is log2(e) / temperature.
template <typename T>
struct SoftmaxSums {
  T top = -INFINITY;  // largest logit
  T sum = 0;          // of e^t
  T weighted = 0;     // of e^t * t * log2(e)
  T raw = 0;          // of e^(x - top), where kRaw asks for it
};

/// e^((x - top) / temperature).
template <typename T>
HONE_DEVICE T softmax_weight(T x, T top, T scale) {
  return device::power_of_two((x - top) * scale);
}

/// Moves the sums to a larger top.
template <bool kRaw, typename T>
HONE_DEVICE void raise_top(SoftmaxSums<T>& s, T top, T scale) {
  if (s.sum != T(0)) {  // else nothing finite was seen, and its distance to `top` may be NaN
    const T shift = (s.top - top) * scale, shrink = device::power_of_two(shift);
    s.weighted = shrink * (s.weighted + shift * s.sum);
    s.sum *= shrink;
    if (kRaw) s.raw *= softmax_weight(s.top, top, kLog2E<T>);
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
  const T base = s.top == -INFINITY ? T(0) : s.top;
  HONE_UNROLL
  for (int k = 0; k < N; ++k) {
    const T t = (x[k] - base) * scale, e = device::power_of_two(t);
    s.sum += e;
    s.weighted += e * std::fmax(t, T(-1000));  // 0 * -inf would be NaN
    if (kRaw) s.raw += softmax_weight(x[k], base, kLog2E<T>);
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
