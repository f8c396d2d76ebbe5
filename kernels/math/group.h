#pragma once

// Advantages relative to the other samples of a prompt (ALGORITHMS.md 44, 45 and section 3).

#include <cmath>
#include <cstdint>

#include "kernels/math/host_device.h"

namespace hone::kernels::math {

enum class GroupKind { kGrpo, kDrGrpo, kRloo, kGrpoLoo, kReinforcePp, kReinforcePpBaseline };

struct GroupParams {
  GroupKind kind;
  double eps;     // added to a group's standard deviation
  bool unbiased;  // Bessel's correction in every standard deviation
  bool raw_singletons;

  /// The results are whitened over the batch afterwards (REINFORCE++, Hu 2025).
  HONE_HD bool whitens_batch() const {
    return kind == GroupKind::kReinforcePp || kind == GroupKind::kReinforcePpBaseline;
  }
};

/// 1 / (std + eps) from a sum of squared deviations of `n` values; 0 where all are equal, also with
/// eps = 0.
HONE_HD double inverse_deviation(double squares, double n, const GroupParams& p) {
  const double degrees = p.unbiased ? n - 1 : n;
  return squares > 0 && degrees > 0 ? 1 / (std::sqrt(squares / degrees) + p.eps) : 0.0;
}

/// s_i against the mean and the deviation of the others. O(n) an element, because
/// what is left of a sum after a subtraction would not be exactly 0 where the others are equal.
template <typename T>
HONE_HD double leave_one_out(const T* scores, int64_t n, int64_t i, const GroupParams& p) {
  const int64_t any_other = i == 0 ? 1 : 0;
  const double first = scores[any_other], others = static_cast<double>(n - 1);
  double sum = 0;
  for (int64_t j = 0; j < n; ++j) sum += j == i ? 0.0 : scores[j] - first;
  const double mean = sum / others, centred = scores[i] - first - mean;
  double squares = 0;
  for (int64_t j = 0; j < n; ++j) {
    const double deviation = j == i ? 0.0 : scores[j] - first - mean;
    squares += deviation * deviation;
  }
  return centred * inverse_deviation(squares, others, p);
}

/// What the score of a group of one is multiplied with where it is kept: its mean counts as 0 and
/// its standard deviation as 1, as verl takes it.
HONE_HD double singleton_scale(const GroupParams& p) {
  return p.kind == GroupKind::kGrpo ? 1 / (1 + p.eps) : 1.0;
}

/// One group of `n` scores, before a whitening over the batch. Deviations are taken from the first
/// score, so that equal scores give exactly 0. Computed in double, rounded once.
template <typename T, typename Out>
HONE_HD void group_advantages(const T* scores, Out* out, int64_t n, const GroupParams& p) {
  if (p.kind == GroupKind::kReinforcePp || (n == 1 && p.raw_singletons)) {
    const double scale = singleton_scale(p);
    for (int64_t i = 0; i < n; ++i) out[i] = static_cast<Out>(scores[i] * scale);
    return;
  }
  if (n < 2) {
    if (n == 1) out[0] = Out(0);
    return;
  }
  if (p.kind == GroupKind::kGrpoLoo) {
    for (int64_t i = 0; i < n; ++i) out[i] = static_cast<Out>(leave_one_out(scores, n, i, p));
    return;
  }
  const double first = scores[0];
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += scores[i] - first;
  const double mean = sum / static_cast<double>(n);
  double scale = 1;
  if (p.kind == GroupKind::kRloo) scale = static_cast<double>(n) / static_cast<double>(n - 1);
  if (p.kind == GroupKind::kGrpo) {
    double squares = 0;
    for (int64_t i = 0; i < n; ++i) {
      const double centred = scores[i] - first - mean;
      squares += centred * centred;
    }
    scale = inverse_deviation(squares, static_cast<double>(n), p);
  }
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<Out>((scores[i] - first - mean) * scale);
}

}  // namespace hone::kernels::math
