// Time runs along the lanes of a vector. Inside a vector the affine maps of kernels/math/gae.h and
// vtrace.h are scanned towards the earlier lanes in log2(lanes) steps; what enters from the right
// (the state after the block) joins last, so only one multiply-add and one broadcast wait for the
// block before. Blocks are counted from the end of the span; the first one may be partial.

#include "kernels/cpu/advantage_span.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/advantage_span.cpp"
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

/// Loads, rewards, stores and sums of a block, the same for both rules. `Access` is Whole or, for
/// the block at the head of the span, LastLanes.
template <class D>
struct Block {
  using T = Scalar<D>;

  D d;
  const AdvantageSpan<T>& span;
  const math::AdvantageParams<T>& p;
  DoubleSum<D> advantages{}, kl{};

  HWY_INLINE hn::Vec<D> kl_penalty(hn::Vec<D> log_ratio) const {
    if (p.kl_clamp < hwy::HighestValue<T>()) {
      const auto most = hn::Set(d, p.kl_clamp), least = hn::Set(d, -p.kl_clamp);
      log_ratio = hn::IfThenElse(hn::Gt(log_ratio, most), most, log_ratio);
      log_ratio = hn::IfThenElse(hn::Lt(log_ratio, least), least, log_ratio);
    }
    switch (p.kl_estimator) {
      case math::KlEstimator::kK2:
        return hn::Mul(hn::Mul(hn::Set(d, T(0.5)), log_ratio), log_ratio);
      case math::KlEstimator::kK3:
        return hn::Add(hn::Expm1(d, hn::Neg(log_ratio)), log_ratio);
      case math::KlEstimator::kAbs:
        return hn::Abs(log_ratio);
      case math::KlEstimator::kK1:
        break;
    }
    return log_ratio;
  }

  template <class Access>
  HWY_INLINE hn::Vec<D> reward(const Access& access, int64_t t) {
    auto r = hn::Zero(d);
    if (span.logp_ref != nullptr) {
      const auto penalty =
          kl_penalty(hn::Sub(access.load(d, span.logp_old + t), access.load(d, span.logp_ref + t)));
      kl.add(access.counted(penalty));
      r = hn::Mul(hn::Set(d, -p.kl_coef), penalty);
    }
    if (span.token_rewards != nullptr) r = hn::Add(r, access.load(d, span.token_rewards + t));
    if (span.rewards != nullptr) access.store(d, r, span.rewards + t);
    return r;
  }
  template <class Access>
  HWY_INLINE hn::Vec<D> value(const Access& access, int64_t t) const {
    return span.values != nullptr ? access.load(d, span.values + t) : hn::Zero(d);
  }
  template <class Access>
  HWY_INLINE void store(const Access& access, int64_t t, hn::Vec<D> target, hn::Vec<D> advantage) {
    access.store(d, target, span.returns + t);
    access.store(d, advantage, span.advantages + t);
    advantages.add_with_square(access.counted(advantage));
  }
};

template <class D>
class GaeScan {
 public:
  using T = Scalar<D>;

  HWY_INLINE GaeScan(D d, const math::AdvantageParams<T>& p, T state)
      : d_(d),
        scan_(d, static_cast<double>(p.gamma) * p.lambda),
        // The scan of gamma lambda in the last lane alone.
        reach_(scan_(moves_, hn::IfThenElseZero(moves_.last, hn::Set(d, p.gamma * p.lambda)))),
        gamma_(hn::Set(d, p.gamma)),
        lambda_(hn::Set(d, p.lambda)),
        one_minus_lambda_(hn::Set(d, T(1) - p.lambda)),
        next_(hn::Set(d, state)) {}

  template <class Access>
  HWY_INLINE void operator()(const Access& access, int64_t t, Block<D>& block) {
    const auto r = block.reward(access, t), v = block.value(access, t);
    const auto own = hn::MulAdd(one_minus_lambda_, v, hn::Mul(lambda_, r));
    x_ = hn::MulAdd(reach_, next_, scan_(moves_, own));
    const auto target = hn::MulAdd(gamma_, moves_.successor(x_, next_), r);
    block.store(access, t, target, hn::Sub(target, v));
    next_ = moves_.broadcast_first(x_);
  }
  /// The state before lane `lane` of the last block.
  T state(size_t lane) const {
    HWY_ALIGN T x[hn::MaxLanes(D())];
    hn::Store(x_, d_, x);
    return x[lane];
  }

 private:
  D d_;
  Moves<D> moves_{};
  GeometricScan<D> scan_;
  hn::Vec<D> reach_;  // (gamma lambda)^(lanes - i)
  hn::Vec<D> gamma_, lambda_, one_minus_lambda_;
  hn::Vec<D> next_, x_ = hn::Zero(d_);
};

template <class D>
class VtraceScan {
 public:
  using T = Scalar<D>;

  HWY_INLINE VtraceScan(D d, const math::AdvantageParams<T>& p, const math::VtraceState<T>& state)
      : d_(d),
        p_(p),
        scan_(d),
        next_excess_(hn::Set(d, state.excess)),
        next_value_(hn::Set(d, state.value)) {}

  template <class Access>
  HWY_INLINE void operator()(const Access& access, int64_t t, Block<D>& block) {
    const auto r = block.reward(access, t);
    v_ = block.value(access, t);
    const auto gamma = hn::Set(d_, p_.gamma);
    const auto ratio = this->ratio(access, t, block.span);
    const auto rho = at_most(ratio, p_.rho_clip);
    auto c = hn::Mul(hn::Set(d_, p_.gamma * p_.lambda), at_most(ratio, p_.c_clip));
    const auto later_value = moves_.successor(v_, next_value_);
    excess_ = hn::Mul(rho, hn::Sub(hn::MulAdd(gamma, later_value, r), v_));
    scan_(moves_, excess_, c);
    excess_ = hn::MulAdd(c, next_excess_, excess_);
    const auto later_target = hn::Add(moves_.successor(excess_, next_excess_), later_value);
    block.store(access, t, hn::Add(v_, excess_),
                hn::Mul(rho, hn::Sub(hn::MulAdd(gamma, later_target, r), v_)));
    next_excess_ = moves_.broadcast_first(excess_);
    next_value_ = moves_.broadcast_first(v_);
  }
  math::VtraceState<T> state(size_t lane) const {
    HWY_ALIGN T excess[hn::MaxLanes(D())], value[hn::MaxLanes(D())];
    hn::Store(excess_, d_, excess);
    hn::Store(v_, d_, value);
    return {excess[lane], value[lane]};
  }

 private:
  template <class Access>
  HWY_INLINE hn::Vec<D> ratio(const Access& access, int64_t t, const AdvantageSpan<T>& span) const {
    if (span.logp_behaviour == nullptr) return hn::Set(d_, T(1));
    const auto x =
        hn::Sub(access.load(d_, span.logp_old + t), access.load(d_, span.logp_behaviour + t));
    return exp_below_88(d_, at_most(x, T(88)));
  }
  HWY_INLINE hn::Vec<D> at_most(hn::Vec<D> x, T limit) const {
    const auto most = hn::Set(d_, limit);
    return hn::IfThenElse(hn::Gt(x, most), most, x);  // keeps a NaN
  }

  D d_;
  const math::AdvantageParams<T>& p_;
  Moves<D> moves_{};
  AffineScan<D> scan_;
  hn::Vec<D> next_excess_, next_value_;
  hn::Vec<D> excess_ = hn::Zero(d_), v_ = hn::Zero(d_);
};

template <template <class> class Scan, typename T, typename State>
void scan_span(const AdvantageSpan<T>& span, const math::AdvantageParams<T>& p, State& state,
               math::AdvantageStats& stats) {
  if (span.size == 0) return;
  using D = hn::ScalableTag<T>;
  const D d;
  const int64_t lanes = hn::Lanes(d);
  Block<D> block{d, span, p};
  Scan<D> scan(d, p, state);
  int64_t t = span.size;
  for (; t >= lanes; t -= lanes) scan(Whole<D>{}, t - lanes, block);
  const int64_t first = t > 0 ? lanes - t : 0;
  if (t > 0) scan(LastLanes<D>(d, first), t - lanes, block);
  state = scan.state(first);
  stats.sum += block.advantages.total();
  stats.squares += block.advantages.total_squares();
  stats.count += static_cast<double>(span.size);
  stats.kl += block.kl.total();
}

using FloatParams = math::AdvantageParams<float>;
using DoubleParams = math::AdvantageParams<double>;

void gae_f32(const AdvantageSpan<float>& span, const FloatParams& p, float& state,
             math::AdvantageStats& stats) {
  scan_span<GaeScan>(span, p, state, stats);
}
void gae_f64(const AdvantageSpan<double>& span, const DoubleParams& p, double& state,
             math::AdvantageStats& stats) {
  scan_span<GaeScan>(span, p, state, stats);
}
void vtrace_f32(const AdvantageSpan<float>& span, const FloatParams& p,
                math::VtraceState<float>& state, math::AdvantageStats& stats) {
  scan_span<VtraceScan>(span, p, state, stats);
}
void vtrace_f64(const AdvantageSpan<double>& span, const DoubleParams& p,
                math::VtraceState<double>& state, math::AdvantageStats& stats) {
  scan_span<VtraceScan>(span, p, state, stats);
}

}  // namespace
}  // namespace hone::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

#include "kernels/cpu/float_dispatch.h"

namespace hone::kernels {

HONE_EXPORT(gae);
HONE_EXPORT(vtrace);

template <typename T>
void advantage_span(math::Gae<T>, const AdvantageSpan<T>& span, const math::AdvantageParams<T>& p,
                    T& state, math::AdvantageStats& stats) {
  HONE_DISPATCH(T, gae)(span, p, state, stats);
}
template <typename T>
void advantage_span(math::Vtrace<T>, const AdvantageSpan<T>& span,
                    const math::AdvantageParams<T>& p, math::VtraceState<T>& state,
                    math::AdvantageStats& stats) {
  HONE_DISPATCH(T, vtrace)(span, p, state, stats);
}

#define HONE_INSTANTIATE(T)                                                                 \
  template void advantage_span(math::Gae<T>, const AdvantageSpan<T>&,                       \
                               const math::AdvantageParams<T>&, T&, math::AdvantageStats&); \
  template void advantage_span(math::Vtrace<T>, const AdvantageSpan<T>&,                    \
                               const math::AdvantageParams<T>&, math::VtraceState<T>&,      \
                               math::AdvantageStats&)
HONE_INSTANTIATE(float);
HONE_INSTANTIATE(double);
#undef HONE_INSTANTIATE

}  // namespace hone::kernels

#endif  // HWY_ONCE
