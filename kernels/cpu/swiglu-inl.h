// SwiGLU on vectors, compiled once for each instruction set (Highway's per-target include guard).

#if defined(HONE_KERNELS_CPU_SWIGLU_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HONE_KERNELS_CPU_SWIGLU_INL_H_
#undef HONE_KERNELS_CPU_SWIGLU_INL_H_
#else
#define HONE_KERNELS_CPU_SWIGLU_INL_H_
#endif

#include "kernels/cpu/vector_exp-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hone::kernels::HWY_NAMESPACE {

/// 1 / x for x >= 1. The instruction's 14 bits (AVX-512) or 12 and one or two of Newton's steps
/// take a third of a division's time.
template <class D, hwy::EnableIf<sizeof(hn::TFromD<D>) == 4>* = nullptr>
HWY_INLINE hn::Vec<D> reciprocal(D d, hn::Vec<D> x) {
  const auto one = hn::Set(d, 1.0f);
  auto y = hn::ApproximateReciprocal(x);
  y = hn::MulAdd(y, hn::NegMulAdd(x, y, one), y);
  if (HWY_TARGET == HWY_AVX3 && hn::MaxLanes(D()) == 16) return y;
  return hn::MulAdd(y, hn::NegMulAdd(x, y, one), y);
}
template <class D, hwy::EnableIf<sizeof(hn::TFromD<D>) == 8>* = nullptr>
HWY_INLINE hn::Vec<D> reciprocal(D d, hn::Vec<D> x) {
  return hn::Div(hn::Set(d, 1.0), x);
}

template <class D>
HWY_INLINE hn::Vec<D> sigmoid(D d, hn::Vec<D> x) {
  using T = hn::TFromD<D>;
  const auto units = hn::Mul(x, hn::Set(d, -kExpUnit<T>));
  const auto e = power(d, hn::Min(units, hn::Set(d, T(88) * kExpUnit<T>)));
  return reciprocal(d, hn::Add(hn::Set(d, T(1)), e));
}

template <class D>
HWY_INLINE hn::Vec<D> swiglu(D d, hn::Vec<D> gate, hn::Vec<D> up) {
  return hn::Mul(hn::Mul(gate, sigmoid(d, gate)), up);
}

template <class D>
struct SwigluGradient {
  hn::Vec<D> d_gate, d_up;
  hn::Vec<D> value;  // the forward result once more
};

/// With s = sigmoid(gate): d gate = dy * up * s * (1 + gate * (1 - s)), d up = dy * gate * s.
template <class D>
HWY_INLINE SwigluGradient<D> swiglu_gradient(D d, hn::Vec<D> dy, hn::Vec<D> gate, hn::Vec<D> up) {
  const auto one = hn::Set(d, hn::TFromD<D>(1)), s = sigmoid(d, gate);
  const auto grad = hn::Mul(dy, s);
  const auto slope = hn::MulAdd(gate, hn::Sub(one, s), one);
  return {hn::Mul(hn::Mul(grad, up), slope), hn::Mul(grad, gate), hn::Mul(hn::Mul(gate, s), up)};
}

}  // namespace hone::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
