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
HONE_HD TraceMap<T> step_map(T reward, T value, const AdvantageParams<T>& p) {
  return {(T(1) - p.lambda) * value + p.lambda * reward, p.gamma * p.lambda};
}

/// The map of a stretch of time: `later` is applied first, then `earlier`.
template <typename T>
HONE_HD TraceMap<T> compose(const TraceMap<T>& later, const TraceMap<T>& earlier) {
  return {earlier.offset + earlier.scale * later.offset, earlier.scale * later.scale};
}

/// The flat arrays of a batch and what one entry of it contributes.
template <typename T>
struct AdvantageRows {
  const T* logp_old;          // [N]
  const T* logp_ref;          // [N]
  const T* values;            // [N]
  const T* scores;            // [B]
  const int64_t* cu_seqlens;  // [B+1]
  const uint8_t* mask;        // [N] or null: all ones
  const T* token_rewards;     // [N] or null: zeros
  T* advantages;              // [N]
  T* returns;                 // [N]
  T* rewards;                 // [N]
  int64_t tokens;             // N
  int64_t sequences;          // B
};

/// Index of the entry of [begin, end) that receives the sequence's score, or -1 when no entry has
/// mask 1.
HONE_HD int64_t score_entry(const uint8_t* mask, int64_t begin, int64_t end, bool after_last) {
  int64_t last = end - 1;
  if (mask != nullptr) {
    while (last >= begin && mask[last] == 0) --last;
  }
  if (last < begin) return -1;
  return after_last && last + 1 < end ? last + 1 : last;
}

template <typename T>
struct AdvantageStep {
  T reward, value, kl;
  bool trained;     // mask = 1: has a KL, an advantage and a place in the statistics
  bool takes_part;  // trained, or the entry after the last one that holds the score
};

/// Entry t of sequence `row`, whose score stands at `scored`. Inputs of entries that do not take
/// part are not read.
template <typename T>
HONE_HD AdvantageStep<T> load_step(const AdvantageRows<T>& a, int64_t row, int64_t t,
                                   int64_t scored, const AdvantageParams<T>& p) {
  AdvantageStep<T> step{T(0), T(0), T(0), a.mask == nullptr || a.mask[t] != 0, false};
  step.takes_part = step.trained || t == scored;
  if (!step.takes_part) return step;
  if (step.trained) {
    step.kl = kl_penalty(a.logp_old[t], a.logp_ref[t], p);
    step.reward = -p.kl_coef * step.kl;
  }
  if (a.token_rewards != nullptr) step.reward += a.token_rewards[t];
  if (t == scored) step.reward += a.scores[row];
  step.value = a.values[t];
  return step;
}

/// The map of one entry; `ends_row`: nothing flows in from the next sequence.
template <typename T>
HONE_HD TraceMap<T> entry_map(const AdvantageStep<T>& step, bool ends_row,
                              const AdvantageParams<T>& p) {
  TraceMap<T> map =
      step.takes_part ? step_map(step.reward, step.value, p) : TraceMap<T>{T(0), T(1)};
  if (ends_row) map.scale = T(0);
  return map;
}

/// Whitening sums in double; the fields in the order of the `stats` tensor.
struct AdvantageStats {
  double sum = 0;
  double squares = 0;
  double count = 0;
  double kl = 0;

  HONE_HD void merge(const AdvantageStats& later) {
    sum += later.sum;
    squares += later.squares;
    count += later.count;
    kl += later.kl;
  }
};

/// Writes the outputs of entry t, given X of the next step (0 at the end of the row).
template <typename T>
HONE_HD void store_step(const AdvantageRows<T>& a, int64_t t, const AdvantageStep<T>& step, T next,
                        const AdvantageParams<T>& p, AdvantageStats& stats) {
  const T target = step.takes_part ? step.reward + p.gamma * next : T(0);
  const T advantage = step.trained ? target - step.value : T(0);
  a.rewards[t] = step.reward;
  a.returns[t] = target;
  a.advantages[t] = advantage;
  if (!step.trained) return;
  stats.sum += advantage;
  stats.squares += static_cast<double>(advantage) * advantage;
  stats.count += 1;
  stats.kl += step.kl;
}

}  // namespace hone::kernels::math
