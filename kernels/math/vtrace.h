#pragma once

// V-trace (Espeholt et al. 2018, "IMPALA", equations 1 and 2 with lambda in c as in their remark
// 2): values of the policy pi_old from text that another policy, the behaviour policy, has sampled.
//
//   ratio_t = pi_old / pi_behaviour, rho_t = min(rho_clip, ratio_t), c_t = l min(c_clip, ratio_t)
//   v_t = V_t + rho_t (r_t + g V_{t+1} - V_t) + g c_t (v_{t+1} - V_{t+1})      the returns
//   A_t = rho_t (r_t + g v_{t+1} - V_t)                                        the advantages
//
// Two scalars flow backwards, D = v - V and V: a step needs the value of the next step that takes
// part. With ratios of 1 (no behaviour policy given) v equals the lambda-return of gae.h.

#include <cmath>

#include "kernels/math/advantages.h"

namespace hone::kernels::math {

template <typename T>
struct VtraceState {
  T excess;  // D_{t+1} = v_{t+1} - V_{t+1}
  T value;   // V_{t+1}
};

/// D_t = d0 + dv V_{t+1} + dd D_{t+1},  V_t = v0 + vv V_{t+1}.
template <typename T>
struct VtraceMap {
  T d0, dv, dd, v0, vv;

  HONE_HD VtraceState<T> operator()(const VtraceState<T>& next) const {
    return {d0 + dv * next.value + dd * next.excess, v0 + vv * next.value};
  }
};

/// `later` is applied first, then `earlier`.
template <typename T>
HONE_HD VtraceMap<T> compose(const VtraceMap<T>& l, const VtraceMap<T>& e) {
  return {e.d0 + e.dv * l.v0 + e.dd * l.d0, e.dv * l.vv + e.dd * l.dv, e.dd * l.dd,
          e.v0 + e.vv * l.v0, e.vv * l.vv};
}

template <typename T>
HONE_HD T clipped_ratio(T log_ratio, T clip) {
  const T ratio = std::exp(log_ratio);
  return ratio > clip ? clip : ratio;
}

template <typename T>
struct Vtrace {
  using State = VtraceState<T>;
  using Map = VtraceMap<T>;

  HONE_HD static State start(T value_after) { return {T(0), value_after}; }
  HONE_HD static Map identity() { return {T(0), T(0), T(1), T(0), T(1)}; }
  HONE_HD static Map constant(const State& s) { return {s.excess, T(0), T(0), s.value, T(0)}; }
  HONE_HD static bool is_constant(const Map& m) {
    return m.dv == T(0) && m.dd == T(0) && m.vv == T(0);
  }
  HONE_HD static State value_of(const Map& m) { return {m.d0, m.v0}; }

  HONE_HD static Map map(const AdvantageStep<T>& step, const AdvantageParams<T>& p) {
    const T rho = clipped_ratio(step.log_ratio, p.rho_clip);
    const T c = p.lambda * clipped_ratio(step.log_ratio, p.c_clip);
    return {rho * (step.reward - step.value), rho * p.gamma, p.gamma * c, step.value, T(0)};
  }
  HONE_HD static AdvantageResult<T> result(const AdvantageStep<T>& step, const State& next,
                                           const AdvantageParams<T>& p) {
    const T rho = clipped_ratio(step.log_ratio, p.rho_clip);
    return {step.value + map(step, p)(next).excess,
            rho * (step.reward + p.gamma * (next.excess + next.value) - step.value)};
  }
};

}  // namespace hone::kernels::math
