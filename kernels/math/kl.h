#pragma once

// Estimators of KL(pi || ref) from one sample of pi, as a function of the log-ratio
// d = log pi - log ref (Schulman, "Approximating KL divergence", 2020; ALGORITHMS.md section 3).

#include <cmath>

#include "kernels/math/host_device.h"

namespace hone::kernels::math {

enum class KlEstimator { kK1, kK2, kK3, kAbs };

template <typename T>
struct KlTerm {
  T value;       // the estimate
  T derivative;  // d value / d d, that is with respect to log pi
};

/// k1 = d (unbiased, may be negative); k2 = d^2/2 (biased); k3 = e^-d - 1 + d (unbiased, >= 0);
/// abs = |d|. expm1 keeps k3 exact to rounding near d = 0, where ratios of a fresh policy live.
template <typename T>
HONE_HD KlTerm<T> kl_term(T d, KlEstimator estimator) {
  switch (estimator) {
    case KlEstimator::kK2:
      return {T(0.5) * d * d, d};
    case KlEstimator::kK3: {
      const T e = std::expm1(-d);
      return {e + d, -e};
    }
    case KlEstimator::kAbs:
      return {std::fabs(d), d > T(0) ? T(1) : (d < T(0) ? T(-1) : T(0))};
    case KlEstimator::kK1:
      break;
  }
  return {d, T(1)};
}

}  // namespace hone::kernels::math
