#pragma once

// A short run of elements that one instruction loads or stores.

#include <cstdint>

#include "kernels/math/host_device.h"

namespace hone::kernels::device {

template <typename T, int N>
struct alignas(sizeof(T) * N) Vector {
  T value[N];

  HONE_HD T& operator[](int i) { return value[i]; }
  HONE_HD const T& operator[](int i) const { return value[i]; }
};

/// Elements of a 16-byte vector, the widest load of a thread.
template <typename T>
constexpr int kVectorWidth = 16 / static_cast<int>(sizeof(T));

template <int N, typename T>
HONE_HD bool is_aligned(const T* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % (sizeof(T) * N) == 0;
}

}  // namespace hone::kernels::device
