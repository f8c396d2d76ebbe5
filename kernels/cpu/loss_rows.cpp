#include "kernels/cpu/loss_rows.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/loss_rows.cpp"
#include "kernels/cpu/highway_targets.h"
// After the targets.
#include "hwy/foreach_target.h"
// After foreach_target.
#include "hwy/highway.h"
#include "kernels/cpu/time_scan-inl.h"
#include "kernels/cpu/vector_exp-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hone::kernels::HWY_NAMESPACE {
namespace {

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;
using Sum = DoubleSum<D>;

V of(float x) { return hn::Set(D(), x); }

/// out = step(inputs...) over whole vectors; the rest of the rows is padded with zeros, a weight of
/// 0 among them. Null inputs read as zeros.
template <size_t kInputs, typename Step>
HWY_INLINE void over_rows(const float* const (&inputs)[kInputs], float* out, int64_t size,
                          const Step& step) {
  const D d;
  const int64_t lanes = hn::Lanes(d);
  V x[kInputs];
  int64_t i = 0;
  for (; i + lanes <= size; i += lanes) {
    for (size_t k = 0; k < kInputs; ++k) {
      x[k] = inputs[k] != nullptr ? hn::LoadU(d, inputs[k] + i) : hn::Zero(d);
    }
    hn::StoreU(step(x), d, out + i);
  }
  if (i == size) return;
  HWY_ALIGN float held[hn::MaxLanes(D())];
  for (size_t k = 0; k < kInputs; ++k) {
    std::fill(held, held + lanes, 0.0f);
    if (inputs[k] != nullptr) std::copy(inputs[k] + i, inputs[k] + size, held);
    x[k] = hn::Load(d, held);
  }
  hn::Store(step(x), d, held);
  std::copy(held, held + (size - i), out + i);
}

/// Infinity above 88.
HWY_INLINE V exponential(V x) {
  const D d;
  const auto over = hn::Gt(x, of(88.0f));
  const auto e = exp_below_88(d, hn::IfThenElse(over, of(88.0f), x));
  return hn::IfThenElse(over, of(std::numeric_limits<float>::infinity()), e);
}

/// log(1 + x) for 0 <= x <= 1, within 2 ulp (a third of the work of Highway's Log1p).
HWY_INLINE V log_of_one_and(V x) {
  // log(1 + x) / x, fitted at the Chebyshev nodes of [0, 1] with the relative error as measure.
  constexpr float kTerms[] = {-0.00316399941f, 0.0194876865f, -0.0562695265f, 0.105329506f,
                              -0.152632743f,   0.196610183f,  -0.249511674f,  0.333296657f,
                              -0.499998897f,   1.0f};
  V sum = of(kTerms[0]);
  for (size_t i = 1; i < std::size(kTerms); ++i) sum = hn::MulAdd(sum, x, of(kTerms[i]));
  return hn::Mul(sum, x);
}

struct Kl {
  V value, derivative;
};

/// math::kl_term.
HWY_INLINE Kl kl_of(V x, math::KlEstimator estimator) {
  const D d;
  switch (estimator) {
    case math::KlEstimator::kK2:
      return {hn::Mul(hn::Mul(of(0.5f), x), x), x};
    case math::KlEstimator::kK3: {
      const auto e = hn::Expm1(d, hn::Neg(x));
      return {hn::Add(e, x), hn::Neg(e)};
    }
    case math::KlEstimator::kAbs:
      return {hn::Abs(x), hn::IfThenElseZero(hn::Ne(x, hn::Zero(d)), hn::CopySign(of(1.0f), x))};
    case math::KlEstimator::kK1:
      break;
  }
  return {x, of(1.0f)};
}

math::PolicySums policy(const PolicyRows& rows, const math::PolicyParams<float>& p) {
  const D d;
  const auto zero = hn::Zero(d);
  const auto low = of(1.0f - p.clip_low), high = of(1.0f + p.clip_high);
  Sum loss{}, clipped{}, dual_clipped{}, log_ratios{}, ratios{}, half_squares{}, entropies{}, kls{},
      behaviours{};
  auto deviation = zero;
  const auto step = [&](const V(&x)[5]) {
    const V now = x[0], old = x[1], advantage = x[2], ref = x[3], weight = x[4];
    // A token of weight 0 is skipped whatever it holds.
    const auto counts = hn::Ne(weight, zero);
    const auto kept = [&](V v) { return hn::IfThenElseZero(counts, v); };
    const auto add = [&](Sum& sum, V v) { sum.add(kept(hn::Mul(weight, v))); };
    const V log_ratio = hn::Sub(now, old), ratio = exponential(log_ratio);
    const V free_loss = hn::Neg(hn::Mul(advantage, ratio));
    const V held_ratio =
        hn::IfThenElse(hn::Lt(ratio, low), low, hn::IfThenElse(hn::Gt(ratio, high), high, ratio));
    const V held_loss = hn::Neg(hn::Mul(advantage, held_ratio));
    const auto is_clipped = hn::Gt(held_loss, free_loss);
    V token = hn::IfThenElse(is_clipped, held_loss, free_loss);
    V derivative = hn::IfThenZeroElse(is_clipped, free_loss);
    add(clipped, hn::IfThenElseZero(is_clipped, of(1.0f)));
    if (p.dual_clip > 0) {
      const V ceiling = hn::Mul(of(-p.dual_clip), advantage);
      const auto is_held = hn::And(hn::Lt(advantage, zero), hn::Gt(token, ceiling));
      token = hn::IfThenElse(is_held, ceiling, token);
      derivative = hn::IfThenZeroElse(is_held, derivative);
      add(dual_clipped, hn::IfThenElseZero(is_held, of(1.0f)));
    }
    if (p.kl_coef != 0) {
      const Kl kl = kl_of(hn::Sub(now, ref), p.kl_estimator);
      token = hn::Add(token, hn::Mul(of(p.kl_coef), kl.value));
      derivative = hn::Add(derivative, hn::Mul(of(p.kl_coef), kl.derivative));
      add(kls, kl.value);
    }
    add(loss, token);
    add(log_ratios, log_ratio);
    add(half_squares, hn::Mul(hn::Mul(of(0.5f), log_ratio), log_ratio));
    add(ratios, ratio);
    add(entropies, hn::Neg(now));
    behaviours.add(weight);
    deviation = hn::Max(deviation, kept(hn::Abs(hn::Sub(ratio, of(1.0f)))));
    return kept(hn::Mul(weight, derivative));
  };
  over_rows({rows.now, rows.old, rows.advantages, rows.ref, rows.weights}, rows.grad, rows.size,
            step);
  math::PolicySums sums;
  sums.loss = loss.total();
  sums.clip_fraction = clipped.total();
  sums.approx_kl = half_squares.total();
  sums.mean_log_ratio = -log_ratios.total();
  sums.mean_ratio = ratios.total();
  // A NaN is no maximum, but it is in the sum.
  sums.max_deviation =
      std::isnan(sums.mean_ratio) ? sums.mean_ratio : hn::GetLane(hn::MaxOfLanes(d, deviation));
  sums.entropy = entropies.total();
  sums.reference_kl = kls.total();
  sums.dual_clip_fraction = dual_clipped.total();
  sums.behaviour = behaviours.total();
  return sums;
}

math::ValueSums value(const ValueRows& rows, float clip) {
  const D d;
  const auto zero = hn::Zero(d);
  const auto reach = of(clip > 0 ? clip : std::numeric_limits<float>::infinity());
  Sum loss{}, clipped{}, squares{};
  const auto step = [&](const V(&x)[4]) {
    const V now = x[0], old = x[1], target = x[2], weight = x[3];
    const auto counts = hn::Ne(weight, zero);
    const auto add = [&](Sum& sum, V v) {
      sum.add(hn::IfThenElseZero(counts, hn::Mul(weight, v)));
    };
    const V low = hn::Sub(old, reach), high = hn::Add(old, reach);
    const V above = hn::IfThenElse(hn::Lt(now, low), low, now);
    const V held = hn::Sub(hn::IfThenElse(hn::Gt(above, high), high, above), target);
    const V error = hn::Sub(now, target);
    const V squared_held = hn::Mul(held, held), squared_error = hn::Mul(error, error);
    const auto is_clipped = hn::Gt(squared_held, squared_error);
    add(loss, hn::Mul(of(0.5f), hn::IfThenElse(is_clipped, squared_held, squared_error)));
    add(clipped, hn::IfThenElseZero(is_clipped, of(1.0f)));
    add(squares, squared_error);
    return hn::IfThenElseZero(counts, hn::Mul(weight, hn::IfThenZeroElse(is_clipped, error)));
  };
  over_rows({rows.now, rows.old, rows.targets, rows.weights}, rows.grad, rows.size, step);
  math::ValueSums sums;
  sums.loss = loss.total();
  sums.clip_fraction = clipped.total();
  sums.squared_error = squares.total();
  return sums;
}

math::PreferenceSum preference(const PreferenceRows& rows) {
  const D d;
  const auto zero = hn::Zero(d), one = of(1.0f);
  Sum loss{};
  const auto step = [&](const V(&x)[4]) {
    const V z = hn::Sub(x[0], x[3]), share = x[1], weight = x[2], rest = hn::Sub(one, share);
    // log(1 + e^x) = max(x, 0) + log1p(e^-|x|), 1 / (1 + e^-x) = (1 or e) / (1 + e).
    const V e = exp_below_88(d, hn::Neg(hn::Abs(z))), log = log_of_one_and(e);
    const V larger = hn::Div(one, hn::Add(one, e)), smaller = hn::Mul(e, larger);
    const auto ahead = hn::Ge(z, zero);
    const V won = hn::Add(hn::Max(hn::Neg(z), zero), log), lost = hn::Add(hn::Max(z, zero), log);
    // A share of 0 is left out, not multiplied: 0 * infinity would be NaN.
    const auto of_share = [&](V part, V v) {
      return hn::IfThenElseZero(hn::Ne(part, zero), hn::Mul(part, v));
    };
    const auto counts = hn::Ne(weight, zero);
    const V nll = hn::Add(of_share(share, won), of_share(rest, lost));
    const V slope = hn::Sub(of_share(rest, hn::IfThenElse(ahead, larger, smaller)),
                            of_share(share, hn::IfThenElse(ahead, smaller, larger)));
    loss.add(hn::IfThenElseZero(counts, hn::Mul(weight, nll)));
    return hn::IfThenElseZero(counts, hn::Mul(weight, slope));
  };
  over_rows({rows.deltas, rows.targets, rows.weights, rows.margins}, rows.grad, rows.size, step);
  return {loss.total()};
}

math::MomentSums moments(const float* x, int64_t size) {
  const D d;
  const int64_t lanes = hn::Lanes(d);
  Sum even{}, odd{};
  int64_t i = 0;
  for (; i + 2 * lanes <= size; i += 2 * lanes) {
    even.add_with_square(hn::LoadU(d, x + i));
    odd.add_with_square(hn::LoadU(d, x + i + lanes));
  }
  math::MomentSums sums{even.total() + odd.total(), even.total_squares() + odd.total_squares(),
                        static_cast<double>(i)};
  for (; i < size; ++i) sums.add(x[i]);
  return sums;
}

}  // namespace
}  // namespace hone::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace hone::kernels {

HWY_EXPORT(policy);
HWY_EXPORT(value);
HWY_EXPORT(preference);
HWY_EXPORT(moments);

math::PolicySums policy_rows(const PolicyRows& rows, const math::PolicyParams<float>& p) {
  return HWY_DYNAMIC_DISPATCH(policy)(rows, p);
}
math::ValueSums value_rows(const ValueRows& rows, float clip) {
  return HWY_DYNAMIC_DISPATCH(value)(rows, clip);
}
math::PreferenceSum preference_rows(const PreferenceRows& rows) {
  return HWY_DYNAMIC_DISPATCH(preference)(rows);
}
math::MomentSums moment_rows(const float* x, int64_t size) {
  return HWY_DYNAMIC_DISPATCH(moments)(x, size);
}

}  // namespace hone::kernels

#endif  // HWY_ONCE
