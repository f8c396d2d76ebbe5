#pragma once

// What the last stage of a fixed-order sum leaves: the `Store` functors of launch_sum that more
// than one kernel uses.

#include "kernels/device/primitives.h"
#include "kernels/math/whitening.h"

namespace hone::kernels::cuda {

template <typename T>
struct StoreLoss {
  T* loss;

  template <typename Sums>
  HONE_DEVICE void operator()(const Sums& total) const {
    *loss = static_cast<T>(total.loss);
  }
};

/// Of sums that know their metrics: total.store(metrics).
template <typename T>
struct StoreLossAndMetrics {
  T* loss;
  double* metrics;

  template <typename Sums>
  HONE_DEVICE void operator()(const Sums& total) const {
    *loss = static_cast<T>(total.loss);
    total.store(metrics);
  }
};

/// The `stats` tensor of moments.
struct StoreMoments {
  double* stats;

  HONE_DEVICE void operator()(const math::MomentSums& total) const {
    stats[0] = total.sum;
    stats[1] = total.squares;
    stats[2] = total.count;
    stats[3] = 0;
  }
};

}  // namespace hone::kernels::cuda
