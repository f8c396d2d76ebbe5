// e^x on vectors, compiled once for each instruction set (Highway's per-target include guard).

#if defined(HONE_KERNELS_CPU_VECTOR_EXP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HONE_KERNELS_CPU_VECTOR_EXP_INL_H_
#undef HONE_KERNELS_CPU_VECTOR_EXP_INL_H_
#else
#define HONE_KERNELS_CPU_VECTOR_EXP_INL_H_
#endif

#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"
#if HWY_TARGET == HWY_AVX3
#include <immintrin.h>
#endif

HWY_BEFORE_NAMESPACE();
namespace hone::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// 1.5 * 2^23: adding it rounds to an integer n and leaves n in the low bits.
constexpr float kRounding = 12582912.0f;

/// p * 2^n, where `shifted` is n + kRounding.
template <class D>
HWY_INLINE hn::Vec<D> times_power(D d, hn::Vec<D> p, hn::Vec<D> shifted) {
  const hn::RebindToSigned<D> di;
  return hn::BitCast(d, hn::Add(hn::BitCast(di, p), hn::ShiftLeft<23>(hn::BitCast(di, shifted))));
}

/// For x <= 88. Within 2 ulp; 0 below -87.3 (no denormals), exactly 1 at 0, NaN for NaN.
/// Highway's own Exp takes two multiplications and two conversions more, for denormal results.
template <class D, hwy::EnableIf<sizeof(hn::TFromD<D>) == 4>* = nullptr>
HWY_INLINE hn::Vec<D> exp_below_88(D d, hn::Vec<D> x) {
  const auto magic = hn::Set(d, kRounding);
  const auto shifted = hn::MulAdd(x, hn::Set(d, 1.44269504088896341f), magic);
  const auto n = hn::Sub(shifted, magic);
  auto r = hn::NegMulAdd(n, hn::Set(d, 0.693145751953125f), x);
  r = hn::NegMulAdd(n, hn::Set(d, 1.428606765330187045e-6f), r);
  // Minimax polynomial of (e^r - 1 - r) / r^2 on |r| <= ln(2)/2, from Highway's math.
  auto p = hn::Set(d, 0.000198527617612853646278381f);
  p = hn::MulAdd(p, r, hn::Set(d, 0.00139304355252534151077271f));
  p = hn::MulAdd(p, r, hn::Set(d, 0.00833336077630519866943359f));
  p = hn::MulAdd(p, r, hn::Set(d, 0.0416664853692054748535156f));
  p = hn::MulAdd(p, r, hn::Set(d, 0.166666671633720397949219f));
  p = hn::MulAdd(p, r, hn::Set(d, 0.5f));
  p = hn::Add(hn::MulAdd(p, hn::Mul(r, r), r), hn::Set(d, 1.0f));
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -87.3f)), times_power(d, p, shifted));
}

template <class D, hwy::EnableIf<sizeof(hn::TFromD<D>) == 8>* = nullptr>
HWY_INLINE hn::Vec<D> exp_below_88(D d, hn::Vec<D> x) {
  const auto low = hn::Set(d, -700.0);
  const auto tiny = hn::Lt(x, low);
  return hn::IfThenZeroElse(tiny, hn::Exp(d, hn::IfThenElse(tiny, low, x)));
}

/// An exponential is cheapest to base 2: e^x = power(kExpUnit<T> * x). The product's rounding makes
/// the result's error grow with |x|, by 2^-24 times it.
template <typename T>
constexpr T kExpUnit = sizeof(T) == 4 ? T(1.44269504088896341) : T(1);

/// 2^x for x <= 127, within 2 ulp; 0 below -126, exactly 1 at 0.
template <class D, hwy::EnableIf<sizeof(hn::TFromD<D>) == 4>* = nullptr>
HWY_INLINE hn::Vec<D> power(D d, hn::Vec<D> x) {
#if HWY_TARGET == HWY_AVX3
  if constexpr (hn::MaxLanes(D()) == 16) {
    // What is left of x above its floor in one instruction, times 2^floor(x) in another.
    constexpr int kFloor = 1;
    const hn::Vec<D> r{_mm512_reduce_ps(x.raw, kFloor)};
    // Minimax polynomial of 2^r on [0, 1] through 1 and 2, fitted for this file.
    auto p = hn::Set(d, 0.0018793185008689761f);
    p = hn::MulAdd(p, r, hn::Set(d, 0.008990994654595852f));
    p = hn::MulAdd(p, r, hn::Set(d, 0.05581867694854736f));
    p = hn::MulAdd(p, r, hn::Set(d, 0.240159273147583f));
    p = hn::MulAdd(p, r, hn::Set(d, 0.6931517124176025f));
    p = hn::MulAdd(p, r, hn::Set(d, 1.0f));
    return hn::Vec<D>{_mm512_scalef_ps(p.raw, x.raw)};
  }
#endif
  const auto magic = hn::Set(d, kRounding);
  const auto shifted = hn::Add(x, magic);
  const auto n = hn::Sub(shifted, magic), r = hn::Sub(x, n);
  // Minimax polynomial of (2^r - 1) / r on |r| <= 1/2, fitted for this file.
  auto p = hn::Set(d, 0.001326472614891827f);
  p = hn::MulAdd(p, r, hn::Set(d, 0.009671512991189957f));
  p = hn::MulAdd(p, r, hn::Set(d, 0.05550733581185341f));
  p = hn::MulAdd(p, r, hn::Set(d, 0.24022242426872253f));
  p = hn::MulAdd(p, r, hn::Set(d, 0.6931470036506653f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f));
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -126.0f)), times_power(d, p, shifted));
}
template <class D, hwy::EnableIf<sizeof(hn::TFromD<D>) == 8>* = nullptr>
HWY_INLINE hn::Vec<D> power(D d, hn::Vec<D> x) {
  return exp_below_88(d, x);
}

/// Sum of all lanes in double, whatever the lane type.
template <class D, hwy::EnableIf<sizeof(hn::TFromD<D>) == 4>* = nullptr>
HWY_INLINE double sum_in_double([[maybe_unused]] D d, hn::Vec<D> v) {
#if HWY_TARGET == HWY_SCALAR
  return hn::GetLane(v);
#else
  const hn::Half<D> half;
  const hn::Rebind<double, decltype(half)> wide;
  const auto sum = hn::Add(hn::PromoteTo(wide, hn::LowerHalf(half, v)),
                           hn::PromoteTo(wide, hn::UpperHalf(half, v)));
  return hn::GetLane(hn::SumOfLanes(wide, sum));
#endif
}
template <class D, hwy::EnableIf<sizeof(hn::TFromD<D>) == 8>* = nullptr>
HWY_INLINE double sum_in_double(D d, hn::Vec<D> v) {
  return hn::GetLane(hn::SumOfLanes(d, v));
}

}  // namespace hone::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
