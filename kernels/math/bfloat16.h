#pragma once

// bfloat16 as kernels see it: stored in 16 bits, computed in float32, rounded once to nearest even.

#include <cstdint>
#include <cstring>

#include "kernels/math/host_device.h"

namespace hone::kernels::math {

/// The upper half of a float32; layout of c10::BFloat16 and of __nv_bfloat16.
struct Bfloat16 {
  uint16_t bits;
};

/// What a kernel over elements of type T computes in.
template <typename T>
struct ComputeOf {
  using type = T;
};
template <>
struct ComputeOf<Bfloat16> {
  using type = float;
};
template <typename T>
using Compute = typename ComputeOf<T>::type;

template <typename T>
HONE_HD T widen(T x) {
  return x;
}
HONE_HD float widen(Bfloat16 x) {
  const uint32_t word = static_cast<uint32_t>(x.bits) << 16;
  float out;
  memcpy(&out, &word, sizeof out);
  return out;
}

template <typename T>
HONE_HD void narrow(T x, T& out) {
  out = x;
}
HONE_HD void narrow(float x, Bfloat16& out) {
#if defined(__CUDA_ARCH__)
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(out.bits) : "f"(x));
#else
  uint32_t word;
  memcpy(&word, &x, sizeof word);
  const bool nan = x != x;
  word += 0x7FFFu + ((word >> 16) & 1u);
  out.bits = nan ? uint16_t{0x7FFF} : static_cast<uint16_t>(word >> 16);
#endif
}

}  // namespace hone::kernels::math
