#pragma once

// The clipped surrogate of one token, its derivative and what it adds to the metrics. policy_loss
// and head_policy_loss, on CPU and CUDA, call policy_token() and nothing else.
// Sources: Schulman et al. 2017 eq. 7; Ye et al. 2020 (dual clip); DAPO (clip-higher).

#include <cmath>

#include "kernels/math/host_device.h"
#include "kernels/math/kl.h"

namespace hone::kernels::math {

template <typename T>
struct PolicyParams {
  T clip_low;  // the ratio is clipped to [1 - clip_low, 1 + clip_high]
  T clip_high;
  T dual_clip;  // c > 1: a loss with A < 0 never exceeds -c*A; 0 = off
  T kl_coef;    // weight of the reference KL inside the loss; 0 = off, logp_ref is not used
  KlEstimator kl_estimator;
};

template <typename T>
struct PolicyToken {
  T loss;        // surrogate + kl_coef * KL, to be multiplied by the token's weight
  T derivative;  // d loss / d logp_new
  T log_ratio;   // logp_new - logp_old
  T ratio;       // exp(log_ratio)
  bool clipped;  // the clipped branch was the larger one and cut the gradient
};

/// loss = max(-A*r, -A*clip(r)); with dual clip and A < 0: min(that, -c*A).
/// Inside the clip range (and on its edges) both branches are equal and the gradient -A*r flows.
template <typename T>
HONE_HD PolicyToken<T> policy_token(T logp_new, T logp_old, T advantage, T logp_ref,
                                    const PolicyParams<T>& p) {
  PolicyToken<T> out;
  out.log_ratio = logp_new - logp_old;
  out.ratio = std::exp(out.log_ratio);
  const T low = T(1) - p.clip_low;
  const T high = T(1) + p.clip_high;
  const T held = out.ratio < low ? low : (out.ratio > high ? high : out.ratio);
  const T free_loss = -advantage * out.ratio;
  const T held_loss = -advantage * held;
  out.clipped = held_loss > free_loss;
  out.loss = out.clipped ? held_loss : free_loss;
  out.derivative = out.clipped ? T(0) : free_loss;  // d(-A e^x)/dx = -A e^x
  if (p.dual_clip > T(0) && advantage < T(0)) {
    const T ceiling = -p.dual_clip * advantage;
    if (out.loss > ceiling) {
      out.loss = ceiling;
      out.derivative = T(0);
    }
  }
  if (p.kl_coef != T(0)) {
    const KlTerm<T> kl = kl_term(logp_new - logp_ref, p.kl_estimator);
    out.loss += p.kl_coef * kl.value;
    out.derivative += p.kl_coef * kl.derivative;
  }
  return out;
}

/// Running sums in double over tokens in a fixed order. The fields after `loss` are, in this order,
/// the `metrics` tensor of policy_loss.
struct PolicySums {
  double loss = 0;
  double clip_fraction = 0;
  double approx_kl = 0;       // 0.5 * (new - old)^2
  double mean_log_ratio = 0;  // k1: old - new
  double mean_ratio = 0;
  double max_deviation = 0;  // max |ratio - 1|, not weighted

  template <typename T>
  HONE_HD void add(const PolicyToken<T>& token, T weight) {
    const double w = weight;
    const double x = token.log_ratio;
    loss += w * token.loss;
    clip_fraction += token.clipped ? w : 0.0;
    approx_kl += w * 0.5 * x * x;
    mean_log_ratio -= w * x;
    mean_ratio += w * token.ratio;
    see_deviation(std::fabs(static_cast<double>(token.ratio) - 1.0));
  }

  HONE_HD void merge(const PolicySums& later) {
    loss += later.loss;
    clip_fraction += later.clip_fraction;
    approx_kl += later.approx_kl;
    mean_log_ratio += later.mean_log_ratio;
    mean_ratio += later.mean_ratio;
    see_deviation(later.max_deviation);
  }

  /// The larger one; NaN sticks instead of being compared away.
  HONE_HD void see_deviation(double deviation) {
    if (deviation > max_deviation || deviation != deviation) max_deviation = deviation;
  }
};

}  // namespace hone::kernels::math
