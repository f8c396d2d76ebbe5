#pragma once

// Whitening from sums, and advantages relative to the other samples of a prompt.

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

enum class GroupBaseline { kGrpo, kDrGrpo, kRloo };

/// Advantages of one prompt's `n` scores. Offsets from the first score keep equal scores at
/// exactly 0. grpo: (s - mean) / (unbiased std + eps) (DeepSeekMath 2024); dr_grpo: s - mean (Liu
/// et al. 2025); rloo: s - mean of the others (Ahmadian et al. 2024). A group of one gives 0.
template <typename T>
HONE_HD void group_advantages(const T* scores, T* out, int64_t n, GroupBaseline kind, double eps) {
  const double first = scores[0];
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += scores[i] - first;
  const double mean = sum / n;
  double scale = 1;
  if (n > 1 && kind == GroupBaseline::kRloo) scale = static_cast<double>(n) / (n - 1);
  if (n > 1 && kind == GroupBaseline::kGrpo) {
    double squares = 0;
    for (int64_t i = 0; i < n; ++i) {
      const double centred = scores[i] - first - mean;
      squares += centred * centred;
    }
    scale = 1 / (std::sqrt(squares / (n - 1)) + eps);
    if (squares == 0) scale = 0;  // also with eps = 0
  }
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<T>((scores[i] - first - mean) * scale);
}

}  // namespace hone::kernels::math
