// Vectors from and to memory that holds T or bfloat16, compiled once for each instruction set
// (Highway's per-target include guard).

#if defined(HONE_KERNELS_CPU_BFLOAT16_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HONE_KERNELS_CPU_BFLOAT16_INL_H_
#undef HONE_KERNELS_CPU_BFLOAT16_INL_H_
#else
#define HONE_KERNELS_CPU_BFLOAT16_INL_H_
#endif

#include <c10/util/BFloat16.h>

#include <cstdint>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace hone::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class D>
HWY_INLINE hn::Vec<D> load(D d, const hn::TFromD<D>* from) {
  return hn::LoadU(d, from);
}
/// A bfloat16 is the upper half of a float32.
template <class D>
HWY_INLINE hn::Vec<D> load(D d, const c10::BFloat16* from) {
  const hn::Rebind<uint16_t, D> half;
  const hn::RebindToUnsigned<D> whole;
  const auto bits = hn::LoadU(half, reinterpret_cast<const uint16_t*>(from));
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(whole, bits)));
}

template <class D>
HWY_INLINE void store(hn::Vec<D> x, D d, hn::TFromD<D>* to) {
  hn::StoreU(x, d, to);
}
/// Rounds to nearest, ties to even.
template <class D>
HWY_INLINE void store(hn::Vec<D> x, [[maybe_unused]] D d, c10::BFloat16* to) {
  const hn::Rebind<uint16_t, D> half;
  const hn::RebindToUnsigned<D> whole;
  const auto bits = hn::BitCast(whole, x);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(whole, 1));
  const auto rounded = hn::Add(bits, hn::Add(odd, hn::Set(whole, 0x7FFF)));
  hn::StoreU(hn::TruncateTo(half, hn::ShiftRight<16>(rounded)), half,
             reinterpret_cast<uint16_t*>(to));
}

/// Calls visit(tag, j) for whole vectors of [0, size), then for single elements.
template <typename T, typename Visit>
HWY_INLINE void for_lanes(int64_t size, const Visit& visit) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = hn::Lanes(d);
  int64_t j = 0;
  for (; j + lanes <= size; j += lanes) visit(d, j);
  for (; j < size; ++j) visit(hn::CappedTag<T, 1>(), j);
}

}  // namespace hone::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
