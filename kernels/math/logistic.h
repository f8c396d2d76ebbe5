#pragma once

#include <cmath>

#include "kernels/math/host_device.h"
#include "kernels/math/quotient.h"

namespace hone::kernels::math {

/// log(1 + e^x) without overflow.
template <typename T>
HONE_HD T softplus(T x) {
  return (x > T(0) ? x : T(0)) + std::log1p(std::exp(-std::fabs(x)));
}

/// 1 / (1 + e^-x) without overflow.
template <typename T>
HONE_HD T logistic(T x) {
  const T e = std::exp(-std::fabs(x));
  return quotient(x >= T(0) ? T(1) : e, T(1) + e);
}

}  // namespace hone::kernels::math
