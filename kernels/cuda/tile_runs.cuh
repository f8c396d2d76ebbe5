#pragma once

// How the entries of a tile lie over the threads of a block, and scans over them, latest first.
//
// A thread holds kRuns runs of kRun consecutive entries. The runs s of a warp's lanes lie side by
// side, so that a load of a run by every lane is one stretch of memory:
//
//   entry of the tile   0 ........ kTile - 1                     time
//                       [warp 7] ... [warp 1][warp 0]
//   a warp              [run 3][run 2][run 1][run 0]             each of 32 lanes
//   a run               [lane 31] ... [lane 1][lane 0]           each of kRun entries

#include <cstdint>

#include "kernels/device/collectives.h"

namespace hone::kernels::cuda {

constexpr int kTileThreads = 256;
constexpr int kTileWarps = kTileThreads / device::kWarp;
constexpr int kRun = 4;   // 16 bytes of float
constexpr int kRuns = 2;  // of a thread
constexpr int kTile = kTileThreads * kRun * kRuns;

template <typename T>
using Run = device::Vector<T, kRun>;

/// Elements of a run that one instruction moves.
template <typename T>
constexpr int kRunWidth = sizeof(T) * kRun <= 16 ? kRun : device::kVectorWidth<T>;

/// The first entry of the thread's run s.
HONE_DEVICE int run_begin(int s) {
  return kTile - kRun * (device::lane() + 1) -
         (device::warp_index() * kRuns + s) * device::kWarp * kRun;
}

/// A run from i on, which is aligned. `Array`: a pointer or a SharedView.
template <typename T, typename Array>
HONE_DEVICE Run<T> whole_run(const Array& x, int64_t i) {
  constexpr int N = kRunWidth<T>;
  Run<T> out;
  HONE_UNROLL
  for (int k = 0; k < kRun; k += N) {
    const auto v = device::load_vector<N>(x, i + k);
    HONE_UNROLL
    for (int j = 0; j < N; ++j) out[k + j] = v[j];
  }
  return out;
}

/// A run of a column of `size` elements: beyond its end, the last one.
template <typename T>
HONE_DEVICE Run<T> part_of_run(const T* x, int64_t i, int64_t size) {
  Run<T> out;
  HONE_UNROLL
  for (int k = 0; k < kRun; ++k) out[k] = x[i + k < size ? i + k : size - 1];
  return out;
}

template <bool kWide, typename T>
HONE_DEVICE void store_run_of_tile(T* x, int64_t i, int64_t size, const Run<T>& run) {
  if constexpr (kWide) {
    constexpr int N = kRunWidth<T>;
    HONE_UNROLL
    for (int k = 0; k < kRun; k += N) {
      device::Vector<T, N> v;
      HONE_UNROLL
      for (int j = 0; j < N; ++j) v[j] = run[k + j];
      device::store_vector(x, i + k, v);
    }
  } else {
    HONE_UNROLL
    for (int k = 0; k < kRun; ++k) {
      if (i + k < size) x[i + k] = run[k];
    }
  }
}

/// Of one value a run, in rank order: the latest first.
template <typename T>
struct RunScan {
  T through[kRuns];  // of the lanes up to this one in run s of the warp
  T before;          // of the warps before this one
  T total;           // of the tile, in every thread

  /// visit(s, what enters run s) for what enters the tile; apply(map, entering) -> leaving.
  template <typename Entering, typename Apply, typename Visit>
  HONE_DEVICE void each(const Entering& tile, Apply apply, Visit visit) const {
    Entering warp = apply(before, tile);
    HONE_UNROLL
    for (int s = 0; s < kRuns; ++s) {
      const Entering after = apply(through[s], warp);
      const Entering below = device::shuffle_up(after, 1);
      visit(s, device::lane() == 0 ? warp : below);
      if (s + 1 < kRuns) warp = device::shuffle(after, device::kWarp - 1);
    }
  }
};

/// `op(later, earlier)`. All threads, with a barrier between two calls with one type of op.
template <typename T, typename Op>
HONE_DEVICE RunScan<T> run_scan(const T (&of_run)[kRuns], const T& identity, Op op) {
  HONE_SHARED(T, of_warp, kTileWarps);
  RunScan<T> out;
  HONE_UNROLL
  for (int s = 0; s < kRuns; ++s) {
    out.through[s] = device::warp_inclusive_scan(of_run[s], op);
  }
  T warp = out.through[0];
  HONE_UNROLL
  for (int s = 1; s < kRuns; ++s) {
    warp = op(device::shuffle(warp, device::kWarp - 1), out.through[s]);
  }
  if (device::lane() == device::kWarp - 1) of_warp[device::warp_index()] = warp;
  device::barrier();
  out.before = identity;
  out.total = of_warp[0];
  HONE_UNROLL
  for (int w = 1; w < kTileWarps; ++w) {
    if (w == device::warp_index()) out.before = out.total;
    out.total = op(out.total, T(of_warp[w]));
  }
  return out;
}

}  // namespace hone::kernels::cuda
