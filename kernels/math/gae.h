#pragma once

// Generalised advantage estimation (Schulman et al. 2016) in its lambda-return form, which is also
// TD(lambda), and with lambda = 1 the discounted return.
//
// With delta_t = r_t + g V_{t+1} - V_t the usual recursion is A_t = delta_t + g l A_{t+1}. Put
//   X_t = V_t + l A_t                      (what the step before bootstraps from)
//   R_t = r_t + g X_{t+1},  A_t = R_t - V_t   =>   X_t = (1 - l) V_t + l r_t + g l X_{t+1}
// so one scalar X carries value and trace together, and a masked step is the identity map. The maps
// compose associatively, which is what lets a vector unit and a GPU scan them.

#include "kernels/math/advantages.h"

namespace hone::kernels::math {

/// X_t = offset + scale * X_{t+1}.
template <typename T>
struct TraceMap {
  T offset;
  T scale;

  HONE_HD T operator()(T next) const { return offset + scale * next; }
};

/// The map of a stretch of time: `later` is applied first, then `earlier`.
template <typename T>
HONE_HD TraceMap<T> compose(const TraceMap<T>& later, const TraceMap<T>& earlier) {
  return {earlier.offset + earlier.scale * later.offset, earlier.scale * later.scale};
}

template <typename T>
struct Gae {
  using State = T;  // X
  using Map = TraceMap<T>;

  HONE_HD static State start(T value_after) { return value_after; }
  HONE_HD static Map identity() { return {T(0), T(1)}; }
  HONE_HD static Map constant(State x) { return {x, T(0)}; }
  /// Does nothing of what enters come out? Also where a long stretch of factors below 1 has become
  /// 0.
  HONE_HD static bool is_constant(const Map& m) { return m.scale == T(0); }
  /// The state a map that begins with a constant stands for.
  HONE_HD static State value_of(const Map& m) { return m.offset; }

  HONE_HD static Map map(const AdvantageStep<T>& step, const AdvantageParams<T>& p) {
    return {(T(1) - p.lambda) * step.value + p.lambda * step.reward, p.gamma * p.lambda};
  }
  HONE_HD static AdvantageResult<T> result(const AdvantageStep<T>& step, State next,
                                           const AdvantageParams<T>& p) {
    const T target = step.reward + p.gamma * next;
    return {target, target - step.value};
  }
};

}  // namespace hone::kernels::math
