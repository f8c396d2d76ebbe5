#pragma once

// Reductions and scans over a block, built on the primitives. Every order is fixed by the number of
// threads alone, and operands keep the order of the threads: `op` need be associative only, and the
// same input gives the same bits. All threads of the block call them, from the same place.
//
// `op(a, b)`: a of the lower thread. No barrier is needed around a call.

#include "kernels/device/primitives.h"

namespace hone::kernels::device {

/// Valid in lane 0.
template <typename T, typename Op>
HONE_DEVICE T warp_reduce(T v, Op op) {
  HONE_UNROLL
  for (int n = 1; n < kWarp; n *= 2) v = op(v, shuffle_down(v, n));
  return v;
}

/// In every lane. `op` must be commutative, so that all lanes get the same bits.
template <typename T, typename Op>
HONE_DEVICE T warp_all_reduce(T v, Op op) {
  HONE_UNROLL
  for (int n = 1; n < kWarp; n *= 2) v = op(v, shuffle_xor(v, n));
  return v;
}

/// v of lanes 0..own combined.
template <typename T, typename Op>
HONE_DEVICE T warp_inclusive_scan(T v, Op op) {
  HONE_UNROLL
  for (int n = 1; n < kWarp; n *= 2) {
    const T before = shuffle_up(v, n);
    if (lane() >= n) v = op(before, v);
  }
  return v;
}

/// Over blocks of kThreads threads; valid in every thread.
template <int kThreads, typename T, typename Op>
HONE_DEVICE T block_reduce(const T& v, Op op) {
  constexpr int kWarps = kThreads / kWarp;
  HONE_SHARED(T, of_warp, kWarps);
  const T mine = warp_reduce(v, op);
  barrier();  // an earlier call may still be reading
  if (lane() == 0) of_warp[warp_index()] = mine;
  barrier();
  T total = of_warp[0];
  for (int w = 1; w < kWarps; ++w) total = op(total, T(of_warp[w]));
  return total;
}

template <typename T>
struct Scan {
  T before;  // of the threads below; `identity` in thread 0
  T total;   // of all threads
};

/// Exclusive scan over blocks of kThreads threads.
template <int kThreads, typename T, typename Op>
HONE_DEVICE Scan<T> block_scan(const T& v, const T& identity, Op op) {
  constexpr int kWarps = kThreads / kWarp;
  HONE_SHARED(T, of_warp, kWarps);
  const T through = warp_inclusive_scan(v, op);
  const T below = shuffle_up(through, 1);
  barrier();  // an earlier call may still be reading
  if (lane() == kWarp - 1) of_warp[warp_index()] = through;
  barrier();
  Scan<T> out{identity, of_warp[0]};
  for (int w = 1; w < kWarps; ++w) {
    if (w == warp_index()) out.before = out.total;
    out.total = op(out.total, T(of_warp[w]));
  }
  if (lane() > 0) out.before = warp_index() == 0 ? below : op(out.before, below);
  return out;
}

struct Add {
  template <typename T>
  HONE_HD T operator()(const T& a, const T& b) const {
    return a + b;
  }
};

struct Larger {
  template <typename T>
  HONE_HD T operator()(const T& a, const T& b) const {
    return a > b || a != a ? a : b;  // NaN sticks
  }
};

}  // namespace hone::kernels::device
