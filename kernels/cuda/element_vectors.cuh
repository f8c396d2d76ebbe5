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

/// How many of a run's N elements from i on are below `size`.
template <int N>
HONE_DEVICE int count_of(int64_t i, int64_t size) {
  return size - i < N ? static_cast<int>(size - i) : N;
}

/// x[i .. i+N) as it is stored. kWhole: all N are there and the address is aligned; else the first
/// `count` are, and the others become zeros.
template <int N, bool kWhole, typename T>
HONE_DEVICE device::Vector<T, N> load_run(const T* x, int64_t i, int count) {
  if constexpr (kWhole) {
    return device::load_vector<N>(x, i);
  } else {
    device::Vector<T, N> out{};
    HONE_UNROLL
    for (int k = 0; k < N; ++k) {
      if (k < count) out[k] = x[i + k];
    }
    return out;
  }
}

/// The counterpart; elements from `count` on are not written.
template <bool kWhole, typename T, int N>
HONE_DEVICE void store_run(T* x, int64_t i, int count, const device::Vector<T, N>& v) {
  if constexpr (kWhole) {
    device::store_vector(x, i, v);
  } else {
    HONE_UNROLL
    for (int k = 0; k < N; ++k) {
      if (k < count) x[i + k] = v[k];
    }
  }
}

/// As load_run of a tensor that may be absent: then `otherwise`.
template <int N, bool kWhole, typename T>
HONE_DEVICE device::Vector<T, N> load_run_or(const T* x, int64_t i, int count, T otherwise) {
  if (x != nullptr) return load_run<N, kWhole>(x, i, count);
  device::Vector<T, N> out;
  HONE_UNROLL
  for (int k = 0; k < N; ++k) out[k] = otherwise;
  return out;
}

/// Elements as they are stored in what kernels compute in.
template <typename T, int N>
HONE_DEVICE device::Vector<math::Compute<T>, N> widened(const device::Vector<T, N>& v) {
  device::Vector<math::Compute<T>, N> out;
  HONE_UNROLL
  for (int k = 0; k < N; ++k) out[k] = math::widen(v[k]);
  return out;
}

/// Rounded once.
template <typename T, int N>
HONE_DEVICE device::Vector<T, N> narrowed(const device::Vector<math::Compute<T>, N>& v) {
  device::Vector<T, N> out;
  HONE_UNROLL
  for (int k = 0; k < N; ++k) math::narrow(v[k], out[k]);
  return out;
}

/// Whether vectors of N start at every one of these (a null is no obstacle).
template <int N, typename... T>
bool all_aligned(const T*... pointers) {
  return (device::is_aligned<N>(pointers) && ...);
}

}  // namespace hone::kernels::cuda
