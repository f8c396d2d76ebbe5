#pragma once

// The clipped value loss of one token (Schulman's PPO code; ALGORITHMS.md 34).

#include <cmath>
#include <cstdint>

#include "kernels/math/host_device.h"

namespace hone::kernels::math {

template <typename T>
struct ValueToken {
  T loss;           // 0.5 * max((v-R)^2, (clip(v)-R)^2)
  T derivative;     // d loss / d v
  T squared_error;  // (v-R)^2
  bool clipped;     // the clipped branch was the larger one and cut the gradient
};

/// clip(v) = v_old + clamp(v - v_old, -clip, clip); clip <= 0: no clipping.
template <typename T>
HONE_HD ValueToken<T> value_token(T value, T value_old, T target, T clip) {
  // Largest and smallest instead of branches: which way a token goes is a coin's toss, and a wrong
  // guess costs more than all this.
  const T reach = clip > T(0) ? clip : T(INFINITY);
  const T low = value_old - reach, high = value_old + reach;
  const T not_below = value < low ? low : value;
  const T held = (not_below > high ? high : not_below) - target, error = value - target;
  const T squared_held = held * held, squared_error = error * error;
  const bool clipped = squared_held > squared_error;
  const T larger = squared_held > squared_error ? squared_held : squared_error;
  return {T(0.5) * larger, error * static_cast<T>(!clipped), squared_error, clipped};
}

/// Sums in double over tokens in a fixed order; the fields after `loss` are the metrics.
/// A: what the sums are held in.
template <typename A>
struct ValueSumsIn {
  static constexpr int64_t kMetrics = 2;

  A loss = 0;
  A clip_fraction = 0;
  A squared_error = 0;

  template <typename T>
  HONE_HD void add(const ValueToken<T>& token, T weight) {
    const A w = weight;
    loss += w * token.loss;
    clip_fraction += w * static_cast<A>(token.clipped);
    squared_error += w * token.squared_error;
  }

  template <typename B>
  HONE_HD void merge(const ValueSumsIn<B>& later) {
    loss += later.loss;
    clip_fraction += later.clip_fraction;
    squared_error += later.squared_error;
  }

  /// The `metrics` tensor.
  HONE_HD void store(double* metrics) const {
    metrics[0] = clip_fraction;
    metrics[1] = squared_error;
  }
};
using ValueSums = ValueSumsIn<double>;

}  // namespace hone::kernels::math
