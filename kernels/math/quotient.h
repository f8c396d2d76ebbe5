#pragma once

#include "kernels/math/host_device.h"

namespace hone::kernels::math {

/// numerator / denominator of a denominator whose size is between 2^-126 and 2^126 (above: 0). On a
/// GPU in float within 2 units in the last place and without a branch, instead of correctly rounded
/// by a dozen instructions: the gates and losses that move a few bytes an element wait for these.
template <typename T>
HONE_HD T quotient(T numerator, T denominator) {
  return numerator / denominator;
}
#if defined(__CUDA_ARCH__)
template <>
HONE_HD float quotient(float numerator, float denominator) {
  return __fdividef(numerator, denominator);
}
#endif

}  // namespace hone::kernels::math
