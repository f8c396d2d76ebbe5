#pragma once

// One element of decoupled-weight-decay Adam (Loshchilov & Hutter 2019, algorithm 2).

#include <cmath>
#include <cstdint>

#include "kernels/math/bfloat16.h"
#include "kernels/math/host_device.h"

namespace hone::kernels::math {

/// What is the same for all elements of a slice at one step.
template <typename T>
struct AdamWCoefficients {
  T beta1, beta2, one_minus_beta1, one_minus_beta2;
  T decay;              // 1 - lr * weight_decay, multiplied into the parameter first
  T step_size;          // lr with the bias correction that stands outside the square root
  T denominator_scale;  // multiplies sqrt(v)
  T eps;
};

/// "torch" (tf1 = false): lr/(1-b1^t) * m / (sqrt(v)/sqrt(1-b2^t) + eps).
/// "tf1": lr*sqrt(1-b2^t)/(1-b1^t) * m / (sqrt(v) + eps), so that early steps see a larger eps
/// (ALGORITHMS 39).
template <typename T>
inline AdamWCoefficients<T> adamw_coefficients(double lr, double weight_decay, double beta1,
                                               double beta2, double eps, int64_t step, bool tf1) {
  const double correction1 = 1.0 - std::pow(beta1, static_cast<double>(step));
  const double root2 = std::sqrt(1.0 - std::pow(beta2, static_cast<double>(step)));
  AdamWCoefficients<T> c;
  c.beta1 = static_cast<T>(beta1);
  c.beta2 = static_cast<T>(beta2);
  c.one_minus_beta1 = static_cast<T>(1.0 - beta1);
  c.one_minus_beta2 = static_cast<T>(1.0 - beta2);
  c.decay = static_cast<T>(1.0 - lr * weight_decay);
  c.step_size = static_cast<T>(tf1 ? lr * root2 / correction1 : lr / correction1);
  c.denominator_scale = static_cast<T>(tf1 ? 1.0 : 1.0 / root2);
  c.eps = static_cast<T>(eps);
  return c;
}

/// Arenas of one size, or a part of them. G: T, or Bfloat16 beside float.
template <typename T, typename G>
struct AdamWSpan {
  T* param;
  const G* grad;
  T *m, *v;
  Bfloat16* rounded;  // the new param once more, or null
  int64_t size;

  AdamWSpan part(int64_t from, int64_t to) const {
    return {param + from,
            grad + from,
            m + from,
            v + from,
            rounded != nullptr ? rounded + from : nullptr,
            to - from};
  }
};

template <typename T>
HONE_HD void adamw_element(T& param, T grad, T& m, T& v, const AdamWCoefficients<T>& c) {
  m = c.beta1 * m + c.one_minus_beta1 * grad;
  v = c.beta2 * v + c.one_minus_beta2 * (grad * grad);
  const T denominator = std::sqrt(v) * c.denominator_scale + c.eps;
  param = param * c.decay - c.step_size * (m / denominator);
}

}  // namespace hone::kernels::math
