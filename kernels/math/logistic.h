#pragma once

#include <cmath>

#include "kernels/math/approximate.h"
#include "kernels/math/host_device.h"

namespace hone::kernels::math {

/// What softplus and logistic of x and of -x have in common: e^-|x|, and log(1 + e^-|x|).
template <typename T>
struct LogisticTail {
  T power, log;
};
template <typename T>
HONE_HD LogisticTail<T> logistic_tail(T x) {
  const T power = approximate_exp(-std::fabs(x));
  return {power, std::log1p(power)};
}

/// log(1 + e^x) without overflow.
template <typename T>
HONE_HD T softplus(T x, const LogisticTail<T>& tail) {
  return (x > T(0) ? x : T(0)) + tail.log;
}
template <typename T>
HONE_HD T softplus(T x) {
  return softplus(x, logistic_tail(x));
}

/// 1 / (1 + e^-x) without overflow.
template <typename T>
HONE_HD T logistic(T x, const LogisticTail<T>& tail) {
  return approximate_quotient(x >= T(0) ? T(1) : tail.power, T(1) + tail.power);
}
template <typename T>
HONE_HD T logistic(T x) {
  return logistic(x, {approximate_exp(-std::fabs(x)), T(0)});
}

}  // namespace hone::kernels::math
