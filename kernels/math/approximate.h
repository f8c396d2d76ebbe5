#pragma once

// Exponential, logarithm and division for gates and losses that move a few bytes an element: on a
// GPU in float a correctly rounded form would take longer than the bytes. On the host, and in
// double, they are std::exp, std::log and a division.

#include <cmath>

#include "kernels/math/host_device.h"

namespace hone::kernels::math {

/// e^x. On a GPU in float by 2^(x log2 e): relative error |x| 2^-24 + 2^-22; subnormals are 0.
template <typename T>
HONE_HD T approximate_exp(T x) {
  return std::exp(x);
}

/// numerator / denominator of a denominator whose size is between 2^-126 and 2^126 (above: 0). On a
/// GPU in float within 2 units in the last place.
template <typename T>
HONE_HD T approximate_quotient(T numerator, T denominator) {
  return numerator / denominator;
}

/// Natural logarithm of a number that is not subnormal. On a GPU in float within 2^-22 of it, of
/// the value or, between 0.5 and 2, of 1.
template <typename T>
HONE_HD T approximate_log(T x) {
  return std::log(x);
}

#if defined(__CUDA_ARCH__)
template <>
HONE_HD float approximate_exp(float x) {
  float out;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(x * 1.4426950408889634f));
  return out;
}
template <>
HONE_HD float approximate_log(float x) {
  float out;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(x));
  return out * 0.6931471805599453f;
}
template <>
HONE_HD float approximate_quotient(float numerator, float denominator) {
  float reciprocal;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(reciprocal) : "f"(denominator));
  return numerator * reciprocal;
}
#endif

}  // namespace hone::kernels::math
