#pragma once

// Generalised advantage estimation (Schulman et al. 2016) in its lambda-return form.
//
// With delta_t = r_t + g V_{t+1} - V_t the usual recursion is A_t = delta_t + g l A_{t+1}. Put
//   X_t = V_t + l A_t                      (what the step before bootstraps from)
//   R_t = r_t + g X_{t+1},  A_t = R_t - V_t   =>   X_t = (1 - l) V_t + l r_t + g l X_{t+1}
// so one scalar X carries value and trace together. A masked step then is the identity map: its
// neighbours see each other as if it were not there. The maps compose associatively, which is what
// lets the GPU scan them. X after the last step of a sequence is 0: texts end, nothing bootstraps.

#include <cstdint>

#include "kernels/math/host_device.h"
#include "kernels/math/kl.h"

namespace hone::kernels::math {

template <typename T>
struct AdvantageParams {
  T kl_coef;
  T kl_clamp;  // |logp_old - logp_ref| is clamped to this; infinity = off
  T gamma;
  T lambda;
  KlEstimator kl_estimator;
  bool after_last;  // the score goes to the entry after the last mask = 1 entry, where there is one
};

/// The estimate that is charged kl_coef each inside the reward.
template <typename T>
HONE_HD T kl_penalty(T logp_old, T logp_ref, const AdvantageParams<T>& p) {
  const T d = logp_old - logp_ref;
  const T held = d > p.kl_clamp ? p.kl_clamp : (d < -p.kl_clamp ? -p.kl_clamp : d);
  return kl_term(held, p.kl_estimator).value;
}

/// X_t = offset + scale * X_{t+1}.
template <typename T>
struct TraceMap {
  T offset;
  T scale;

  HONE_HD T operator()(T next) const { return offset + scale * next; }
};

template <typename T>
HONE_HD TraceMap<T> identity_map() {
  return {T(0), T(1)};
}

template <typename T>
HONE_HD TraceMap<T> step_map(T reward, T value, const AdvantageParams<T>& p) {
  return {(T(1) - p.lambda) * value + p.lambda * reward, p.gamma * p.lambda};
}

/// The map of a stretch of time: `later` is applied first, then `earlier`.
template <typename T>
HONE_HD TraceMap<T> compose(const TraceMap<T>& later, const TraceMap<T>& earlier) {
  return {earlier.offset + earlier.scale * later.offset, earlier.scale * later.scale};
}

/// R_t, given X of the next step that takes part.
template <typename T>
HONE_HD T lambda_return(T reward, T next, const AdvantageParams<T>& p) {
  return reward + p.gamma * next;
}

/// Index of the entry of [begin, end) that receives the sequence's score, or -1 when no entry has
/// mask 1 (`mask` may be null: all ones).
HONE_HD int64_t score_entry(const uint8_t* mask, int64_t begin, int64_t end, bool after_last) {
  int64_t last = end - 1;
  if (mask != nullptr) {
    while (last >= begin && mask[last] == 0) --last;
  }
  if (last < begin) return -1;
  return after_last && last + 1 < end ? last + 1 : last;
}

}  // namespace hone::kernels::math
