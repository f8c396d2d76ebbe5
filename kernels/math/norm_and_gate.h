#pragma once

// One element of rms_norm (Zhang & Sennrich 2019) and of SwiGLU (Shazeer 2020), and of their
// gradients. The CPU ops compute the same in vectors (kernels/cpu/rms_norm.cpp, swiglu.cpp).

#include <cmath>

#include "kernels/math/approximate.h"
#include "kernels/math/host_device.h"

namespace hone::kernels::math {

/// 1 / sqrt(mean(x^2) + eps) from the sum of squares of a row.
template <typename T>
HONE_HD T inverse_rms(T squares, T width, T eps) {
  return T(1) / std::sqrt(squares / width + eps);
}

/// With r = inverse_rms and the row's mean of w*g*x: d x = r * (w*g - x * r^2 * mean).
template <typename T>
HONE_HD T rms_norm_gradient(T x, T weighted_grad, T r, T mean) {
  return r * (weighted_grad - x * r * r * mean);
}

template <typename T>
HONE_HD T sigmoid(T x) {
  return approximate_quotient(T(1), T(1) + approximate_exp(-x));
}

template <typename T>
HONE_HD T swiglu(T gate, T up) {
  return gate * sigmoid(gate) * up;
}

template <typename T>
struct SwigluGradient {
  T gate, up;
};
/// With s = sigmoid(gate): d gate = dy*up*s*(1 + gate*(1-s)), d up = dy*gate*s.
template <typename T>
HONE_HD SwigluGradient<T> swiglu_gradient(T dy, T gate, T up) {
  const T s = sigmoid(gate);
  return {dy * up * s * (T(1) + gate * (T(1) - s)), dy * gate * s};
}

}  // namespace hone::kernels::math
