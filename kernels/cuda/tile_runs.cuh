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
constexpr int kRun = 4;   // 16 bytes of float
constexpr int kRuns = 4;  // of a thread; their loads are in flight together
constexpr int kTile = kTileThreads * kRun * kRuns;

/// The first entry of the thread's run s.
HONE_DEVICE int run_begin(int s) {
  return kTile - kRun * (device::lane() + 1) -
         (device::warp_index() * kRuns + s) * device::kWarp * kRun;
}

template <typename T>
struct Run {
  T value[kRun];

  HONE_DEVICE T& operator[](int k) { return value[k]; }
  HONE_DEVICE const T& operator[](int k) const { return value[k]; }
};

/// Entries begin.. of a column of `count`; kWide: all there and aligned. Beyond the end: the last.
template <bool kWide, typename T>
HONE_DEVICE Run<T> load_run(const T* column, int64_t begin, int64_t count) {
  constexpr int kWidth = sizeof(T) * kRun <= 16 ? kRun : device::kVectorWidth<T>;
  Run<T> out;
  if constexpr (kWide) {
    HONE_UNROLL
    for (int k = 0; k < kRun; k += kWidth) {
      const auto v = device::load_vector<kWidth>(column, begin + k);
      HONE_UNROLL
      for (int i = 0; i < kWidth; ++i) out[k + i] = v[i];
    }
  } else {
    HONE_UNROLL
    for (int k = 0; k < kRun; ++k) {
      out[k] = column[begin + k < count ? begin + k : count - 1];
    }
  }
  return out;
}

template <typename T>
HONE_DEVICE void store_run(T* column, int64_t begin, int64_t count, bool wide, const Run<T>& run) {
  constexpr int kWidth = sizeof(T) * kRun <= 16 ? kRun : device::kVectorWidth<T>;
  if (wide) {
    HONE_UNROLL
    for (int k = 0; k < kRun; k += kWidth) {
      device::Vector<T, kWidth> v;
      HONE_UNROLL
      for (int i = 0; i < kWidth; ++i) v[i] = run[k + i];
      device::store_vector(column, begin + k, v);
    }
  } else {
    HONE_UNROLL
    for (int k = 0; k < kRun; ++k) {
      if (begin + k < count) column[begin + k] = run[k];
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

/// `op(later, earlier)`. All threads; no barrier is needed around a call.
template <typename T, typename Op>
HONE_DEVICE RunScan<T> run_scan(const T (&of_run)[kRuns], const T& identity, Op op) {
  constexpr int kWarps = kTileThreads / device::kWarp;
  HONE_SHARED(T, of_warp, kWarps);
  RunScan<T> out;
  T warp = identity;
  HONE_UNROLL
  for (int s = 0; s < kRuns; ++s) {
    out.through[s] = device::warp_inclusive_scan(of_run[s], op);
  }
  HONE_UNROLL
  for (int s = 0; s < kRuns; ++s) {
    warp = op(warp, device::shuffle(out.through[s], device::kWarp - 1));
  }
  device::barrier();  // an earlier call may still be reading
  if (device::lane() == 0) of_warp[device::warp_index()] = warp;
  device::barrier();
  out.before = out.total = identity;
  HONE_UNROLL
  for (int w = 0; w < kWarps; ++w) {
    if (w == device::warp_index()) out.before = out.total;
    out.total = op(out.total, T(of_warp[w]));
  }
  return out;
}

}  // namespace hone::kernels::cuda
