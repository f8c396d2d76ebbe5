#pragma once

// Whitening from sums.

#include <cmath>
#include <cstdint>

#include "kernels/math/host_device.h"

namespace hone::kernels::math {

/// Sums in double of the values to whiten; the fields in the order of the `stats` tensor.
struct MomentSums {
  double sum = 0;
  double squares = 0;
  double count = 0;

  HONE_HD void add(double value) {
    sum += value;
    squares += value * value;
    count += 1;
  }

  /// A value that stands `times` times.
  HONE_HD void add(double value, double times) {
    sum += value * times;
    squares += value * value * times;
    count += times;
  }

  HONE_HD void merge(const MomentSums& later) {
    sum += later.sum;
    squares += later.squares;
    count += later.count;
  }
};

/// y = (x - shift) * scale + keep.
struct Whitening {
  double shift;
  double scale;
  double keep;

  template <typename T>
  HONE_HD T operator()(T x) const {
    return static_cast<T>((static_cast<double>(x) - shift) * scale + keep);
  }
};

/// From `stats` = {sum, sum of squares, count, ...}. Fewer than two values have variance 0.
/// 1e-8 stands inside the root, as in the public PPO code (ALGORITHMS.md 31).
HONE_HD Whitening whitening(const double* stats, bool unbiased, bool shift_mean) {
  const double count = stats[2];
  if (!(count > 0)) return {0.0, 1.0, 0.0};
  const double mean = stats[0] / count;
  double variance = stats[1] / count - mean * mean;
  if (unbiased && count > 1) variance *= count / (count - 1);
  if (variance < 0 || count < 2) variance = 0;  // rounding, or a single value
  return {mean, 1.0 / std::sqrt(variance + 1e-8), shift_mean ? 0.0 : mean};
}

}  // namespace hone::kernels::math
