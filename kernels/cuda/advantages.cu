// Advantages of a packed batch as one segmented reverse scan over the token stream, so that the
// load is even whatever the lengths (0, 1 and a million alike). Five launches, no atomics:
//
//   score_entry_kernel  one thread a sequence: where its score goes
//   tile_map_kernel     one block a tile of kTile tokens: the affine map of the whole tile
//   carry_kernel        one block: X that enters each tile from the right (exclusive scan)
//   apply_kernel        one block a tile: scan inside the tile, outputs, partial statistics
//   total_sum_kernel    one block: statistics in a fixed order
//
// A step is the map X_t = offset + scale * X_{t+1} (kernels/math/advantages.h); the last entry of a
// sequence has scale 0, which is all the segmentation there is. Scans run in rank order with rank 0
// the latest time, so `compose(a, b)` gets the later stretch first. Inputs are read twice, the
// second time mostly from L2; the bound is 20 bytes a token once.

#include <algorithm>

#include "kernels/cuda/fixed_order_sum.cuh"
#include "kernels/cuda/launchers.h"

namespace hone::kernels::cuda {
namespace {

using math::AdvantageParams;
using math::AdvantageRows;
using math::AdvantageStats;
using math::TraceMap;

constexpr int kThreads = kSumThreads;
constexpr int kItems = 8;  // consecutive tokens a thread: one 32-byte sector of float
constexpr int64_t kTile = kThreads * kItems;

template <typename T>
struct Compose {
  HONE_DEVICE TraceMap<T> operator()(const TraceMap<T>& later, const TraceMap<T>& earlier) const {
    return math::compose(later, earlier);
  }
};

/// Workspace of one call, laid out behind one pointer.
template <typename T>
struct Workspace {
  AdvantageStats* stats;   // [tiles]
  int64_t* scored;         // [B]
  TraceMap<T>* tile_maps;  // [tiles]
  T* tile_next;            // [tiles] X of the first entry after the tile
};

int64_t tile_count(int64_t tokens) { return (tokens + kTile - 1) / kTile; }

template <typename T>
Workspace<T> layout(void* workspace, int64_t tiles, int64_t sequences) {
  Workspace<T> w;
  w.stats = static_cast<AdvantageStats*>(workspace);
  w.scored = reinterpret_cast<int64_t*>(w.stats + tiles);
  w.tile_maps = reinterpret_cast<TraceMap<T>*>(w.scored + sequences);
  w.tile_next = reinterpret_cast<T*>(w.tile_maps + tiles);
  return w;
}

template <typename T>
HONE_KERNEL(kThreads)
score_entry_kernel(AdvantageRows<T> rows, bool after_last, int64_t* scored) {
  const int64_t row = device::block_index() * kThreads + device::thread_index();
  if (row >= rows.sequences) return;
  scored[row] =
      math::score_entry(rows.mask, rows.cu_seqlens[row], rows.cu_seqlens[row + 1], after_last);
}

/// The sequence of token t: the last row with cu_seqlens[row] <= t (empty rows are passed over).
HONE_DEVICE int64_t row_of(const int64_t* cu_seqlens, int64_t sequences, int64_t t) {
  int64_t low = 0, high = sequences;  // cu_seqlens[low] <= t < cu_seqlens[high]
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    if (cu_seqlens[middle] <= t) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

/// Visits this thread's tokens from the latest to the earliest: visit(t, row, ends_row).
template <typename T, typename Visit>
HONE_DEVICE void visit_tokens(const AdvantageRows<T>& rows, Visit visit) {
  const int64_t last_of_tile = (device::block_index() + 1) * kTile;
  const int64_t begin = last_of_tile - (device::thread_index() + 1) * kItems;
  const int64_t end = std::min(begin + kItems, rows.tokens);
  if (begin >= end) return;
  int64_t row = row_of(rows.cu_seqlens, rows.sequences, end - 1);
  for (int64_t t = end - 1; t >= begin; --t) {
    while (row > 0 && t < rows.cu_seqlens[row]) --row;
    visit(t, row, t + 1 == rows.cu_seqlens[row + 1]);
  }
}

template <typename T>
HONE_DEVICE TraceMap<T> map_of_thread(const AdvantageRows<T>& rows, const AdvantageParams<T>& p,
                                      const int64_t* scored) {
  TraceMap<T> map{T(0), T(1)};
  visit_tokens(rows, [&](int64_t t, int64_t row, bool ends_row) {
    const auto step = math::load_step(rows, row, t, scored[row], p);
    map = math::compose(map, math::entry_map(step, ends_row, p));
  });
  return map;
}

template <typename T>
HONE_KERNEL(kThreads)
tile_map_kernel(AdvantageRows<T> rows, AdvantageParams<T> p, Workspace<T> w) {
  const TraceMap<T> map = map_of_thread(rows, p, w.scored);
  const TraceMap<T> whole = device::block_reduce<kThreads>(map, Compose<T>{});
  if (device::thread_index() == 0) w.tile_maps[device::block_index()] = whole;
}

/// Walks the tiles from the last, kThreads at a time; `next` is X entering the current batch.
template <typename T>
HONE_KERNEL(kThreads)
carry_kernel(Workspace<T> w, int64_t tiles) {
  TraceMap<T> next{T(0), T(0)};  // a constant map: nothing after the stream
  for (int64_t base = 0; base < tiles; base += kThreads) {
    const int64_t tile = tiles - 1 - base - device::thread_index();
    const TraceMap<T> map = tile >= 0 ? w.tile_maps[tile] : TraceMap<T>{T(0), T(1)};
    const auto scan = device::block_scan<kThreads>(map, TraceMap<T>{T(0), T(1)}, Compose<T>{});
    if (tile >= 0) w.tile_next[tile] = scan.before(next.offset);
    next = math::compose(next, scan.total);
  }
}

template <typename T>
HONE_KERNEL(kThreads)
apply_kernel(AdvantageRows<T> rows, AdvantageParams<T> p, Workspace<T> w) {
  const TraceMap<T> map = map_of_thread(rows, p, w.scored);
  const auto scan = device::block_scan<kThreads>(map, TraceMap<T>{T(0), T(1)}, Compose<T>{});
  T next = scan.before(w.tile_next[device::block_index()]);
  AdvantageStats mine;
  visit_tokens(rows, [&](int64_t t, int64_t row, bool ends_row) {
    const auto step = math::load_step(rows, row, t, w.scored[row], p);
    math::store_step(rows, t, step, ends_row ? T(0) : next, p, mine);
    next = math::entry_map(step, ends_row, p)(next);
  });
  const AdvantageStats total = block_sum(mine);
  if (device::thread_index() == 0) w.stats[device::block_index()] = total;
}

struct StoreStats {
  double* stats;

  HONE_DEVICE void operator()(const AdvantageStats& total) const {
    stats[0] = total.sum;
    stats[1] = total.squares;
    stats[2] = total.count;
    stats[3] = total.kl;
  }
};

}  // namespace

template <typename T>
size_t advantage_workspace_bytes(int64_t tokens, int64_t sequences) {
  const size_t tiles = static_cast<size_t>(tile_count(tokens));
  return tiles * (sizeof(AdvantageStats) + sizeof(TraceMap<T>) + sizeof(T)) +
         static_cast<size_t>(sequences) * sizeof(int64_t);
}

template <typename T>
cudaError_t launch_advantages(const AdvantageArgs<T>& args, cudaStream_t stream) {
  const AdvantageRows<T>& rows = args.rows;
  const int64_t tiles = tile_count(rows.tokens);
  const Workspace<T> w = layout<T>(args.workspace, tiles, rows.sequences);
  if (tiles > 0) {  // then there is a sequence, too
    cudaError_t error =
        device::launch(score_entry_kernel<T>, (rows.sequences + kThreads - 1) / kThreads, kThreads,
                       0, stream, rows, args.params.after_last, w.scored);
    if (error != cudaSuccess) return error;
    error = device::launch(tile_map_kernel<T>, tiles, kThreads, 0, stream, rows, args.params, w);
    if (error != cudaSuccess) return error;
    error = device::launch(carry_kernel<T>, 1, kThreads, 0, stream, w, tiles);
    if (error != cudaSuccess) return error;
    error = device::launch(apply_kernel<T>, tiles, kThreads, 0, stream, rows, args.params, w);
    if (error != cudaSuccess) return error;
  }
  return device::launch(total_sum_kernel<AdvantageStats, StoreStats>, 1, kThreads, 0, stream,
                        w.stats, tiles, StoreStats{args.stats});
}

template size_t advantage_workspace_bytes<float>(int64_t, int64_t);
template size_t advantage_workspace_bytes<double>(int64_t, int64_t);
template cudaError_t launch_advantages(const AdvantageArgs<float>&, cudaStream_t);
template cudaError_t launch_advantages(const AdvantageArgs<double>&, cudaStream_t);

}  // namespace hone::kernels::cuda
