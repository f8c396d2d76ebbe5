#pragma once

// What the tokens of one sequence share: the log of a sequence's ratio, and the gradient that comes
// back through it (GSPO, Zheng et al. 2025, eq. 7; RLOO's whole-sequence ratio).

#include <cstdint>

#include "kernels/math/host_device.h"

namespace hone::kernels::math {

struct SequenceSum {
  double sum = 0;
  int64_t tokens = 0;  // of weight other than 0: only these are the sequence's

  HONE_HD void merge(const SequenceSum& later) {
    sum += later.sum;
    tokens += later.tokens;
  }
  /// The mean or the sum.
  HONE_HD double value(bool mean) const {
    return mean && tokens > 0 ? sum / static_cast<double>(tokens) : sum;
  }
};

/// Sum of x - y over the tokens first, first + step, ... below end whose weight is not 0.
template <typename T>
HONE_HD SequenceSum sum_differences(const T* x, const T* y, const T* weight, int64_t first,
                                    int64_t end, int64_t step) {
  SequenceSum out;
  for (int64_t i = first; i < end; i += step) {
    if (weight[i] == T(0)) continue;
    out.sum += static_cast<double>(x[i] - y[i]);
    ++out.tokens;
  }
  return out;
}

/// The same over x alone.
template <typename T>
HONE_HD SequenceSum sum_values(const T* x, const T* weight, int64_t first, int64_t end,
                               int64_t step) {
  SequenceSum out;
  for (int64_t i = first; i < end; i += step) {
    if (weight[i] == T(0)) continue;
    out.sum += static_cast<double>(x[i]);
    ++out.tokens;
  }
  return out;
}

}  // namespace hone::kernels::math
