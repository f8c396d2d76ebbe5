#pragma once

// Vectors of N elements at the end of a row or of a tensor: a whole vector where the address allows
// it, single elements elsewhere. Which of the two it was never shows in a result.

#include <cstdint>

#include "kernels/device/primitives.h"
#include "kernels/math/bfloat16.h"

namespace hone::kernels::cuda {

/// x[i .. i+N) in the type that kernels compute in; elements from `size` on are 0.
template <int N, typename T>
HONE_DEVICE device::Vector<math::Compute<T>, N> load_wide(const T* x, int64_t i, int64_t size,
                                                          bool aligned) {
  device::Vector<math::Compute<T>, N> out;
  if (aligned && i + N <= size) {
    const device::Vector<T, N> v = device::load_vector<N>(x, i);
    HONE_UNROLL
    for (int k = 0; k < N; ++k) out[k] = math::widen(v[k]);
  } else {
    HONE_UNROLL
    for (int k = 0; k < N; ++k) {
      out[k] = i + k < size ? math::widen(x[i + k]) : math::Compute<T>(0);
    }
  }
  return out;
}

/// Rounds once; elements from `size` on are not written.
template <int N, typename T>
HONE_DEVICE void store_narrow(T* x, int64_t i, int64_t size, bool aligned,
                              const device::Vector<math::Compute<T>, N>& v) {
  if (aligned && i + N <= size) {
    device::Vector<T, N> out;
    HONE_UNROLL
    for (int k = 0; k < N; ++k) math::narrow(v[k], out[k]);
    device::store_vector(x, i, out);
  } else {
    HONE_UNROLL
    for (int k = 0; k < N; ++k) {
      if (i + k < size) math::narrow(v[k], x[i + k]);
    }
  }
}

}  // namespace hone::kernels::cuda
